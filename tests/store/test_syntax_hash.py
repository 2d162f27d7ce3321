"""The hash of a syntax tree is frozen: it is part of ids, and the same on every version of Python."""

import ast

import pytest

from bench.store.syntax_hash import _FIELDS, of_source, of_tree

EVERYTHING = '''
"""A module with every kind of statement and expression."""
from __future__ import annotations
import os.path as path, sys
from . import near
from .near import (one as first, two)
from far import *

whole: int = 0x1F_F
(inner): "str" = u"kind"
bare: list[int]
numbers = 1, -2.5e-3, 3j, 10**400, True, None, ..., b"\\x00bytes", 1e999
text = "a" 'b' """c
d""" "\\ud800"
joined = f"{whole!r:>{numbers[0]}} and {{{text=}}}" f"{whole:}" "end" f"{f'{whole}'}"
first_of, *others = [*numbers, *range(3)]
sliced = others[1:2, ::3, ...][:, None]
table = {**{}, "key": 1, 2: [x async for x in near] if False else {3, 4}}
letters = {c for c in text}
pairs = {k: v for k, v in table.items() if k if not v for _ in (1,)}
lazy = (y := x + 1 for x in others)
called = sorted(others, *[], key=lambda a, /, b=1, *c, d, e=2, **f: a @ b, **{})
compared = not 1 < 2 <= 3 != 4 is not None in () and (whole or ~whole) // 2 ** 3 % 5
sum_of = whole << 1 >> 2 | 3 ^ 4 & 5 / 6 - 7
whole += 1; whole @= 2; del whole, others[0], path.sep
assert (yes := called), "why"


@near.decorated(1)
@first
class Thing(first, two, metaclass=type, **{}):
    """A docstring."""

    field: int = 3

    def method(self: Thing, a: int = 1, /, *rest: int, key: str = "k", **more: object) -> None:
        """A docstring."""
        nonlocal_one = 1

        def inner():
            nonlocal nonlocal_one
            global whole
            yield
            sent = yield 1
            yield from (2,)
            return sent

        return inner()

    async def wait(self):
        async with self as a, a.b as (c, d):
            await a
        async for x in a:
            pass
        else:
            return [i async for i in x]


for i in range(3):
    if i: continue
    elif not i: break
    else: pass
else:
    while True:
        raise ValueError from None
    else:
        raise

try:
    with open("x") as file, path:
        ...
except (OSError, ValueError) as error:
    raise error
except Exception:
    pass
else:
    pass
finally:
    pass

try:
    pass
except* OSError as group:
    pass

match table:
    case {"key": 1, **left} if left:
        pass
    case [1, 2.5, -3, *middle, "s"] | (None | True) as both:
        pass
    case Thing(1, field=near.CONSTANT):
        pass
    case [_, *_]:
        pass
    case other:
        pass
'''
FROZEN = "5a85041af218cb36962bb8a81cc727b6"


def test_the_hash_of_every_kind_of_statement_is_frozen() -> None:
    kinds = {type(node).__name__ for node in ast.walk(ast.parse(EVERYTHING))}
    assert not _FIELDS.keys() - kinds, "the text lacks these"
    assert of_source(EVERYTHING) == FROZEN


def test_nothing_that_does_not_run_counts() -> None:
    code = 'import a\ndef f(x):\n    return x + 1\nclass C:\n    y = "s"\n'
    same = [
        '"""Doc."""\nimport a\ndef f(x):\n    return x + 1\nclass C:\n    y = "s"\n',
        "# Comment\nimport a\n\n\ndef f(\n    x,\n):\n    'Doc.'\n    return (x + 1)  # sum\n\n\nclass C:\n"
        "    '''Doc.'''\n    y = u's'\n",
        code.replace("\n", "\r\n"),
        "\ufeff" + code,
        "# -*- coding: latin-1 -*-\n" + code,
    ]
    assert {of_source(text.encode()) for text in (code, *same)} == {of_source(code)}
    assert of_source("def f():\n    'Doc.'\n") == of_source("def f():\n    pass\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1.0"), ("x = 1", "x = True"), ("x = 'a'", "x = b'a'"), ("x = 0.1", "x = 0.2"),
        ("x = 0.0", "x = -0.0"), ("x = None", "x = 'None'"), ("x = ...", "x = None"),
        ("def f(a, b): pass", "def f(a, *, b): pass"), ("def f(a, /, b): pass", "def f(a, b): pass"),
        ("def f(): pass", "async def f(): pass"), ("x: int = 1", "(x): int = 1"),
        ("import a.b", "import a.b as a"), ("from . import a", "from .. import a"),
        ("f'{x}'", "f'{x!s}'"), ("f'{x}'", "f'{{x}}'"), ("f'a{x}b'", "f'ab{x}'"), ("f'{x:>2}'", "f'{x:<2}'"),
        ("f(a, *b)", "f(*a, b)"), ("a < b < c", "a < (b < c)"), ("[a, b]", "(a, b)"),
        ("{1: 2}", "{1, 2}"), ("try: a\nexcept E: b", "try: a\nexcept* E: b"),
        ("try: a\nfinally: b", "try: a\nexcept: b"), ("while a: b\nelse: c", "while a: b\nc"),
        ("match a:\n case b: c", "match a:\n case b.b: c"), ("x = 'docstring'", "x = 'other'"),
        ("a\n'late string'\nb", "a\nb"), ("x = ['a', 'bc']", "x = ['ab', 'c']"),
        ("x = 99999999999999999999", "x = 99999999999999999998"), ("global_ = 1", "global__ = 1"),
        ("@a\ndef f(): pass", "def f(): pass"), ("def f() -> int: pass", "def f(): pass"),
    ],
)  # fmt: skip
def test_everything_that_runs_counts(one: str, other: str) -> None:
    assert of_source(one) != of_source(other)


def test_f_strings_are_one_however_their_texts_are_cut() -> None:
    """Versions of Python cut the text of an f-string in different places."""
    assert of_source("x = f'a' 'b' f'{y}' 'c'") == of_source("x = f'ab{y}c'")
    pieces = ast.parse("x = f'ab{y}'")
    joined = pieces.body[0].value  # type: ignore[attr-defined]
    joined.values[:1] = [ast.Constant(""), ast.Constant("a"), ast.Constant("b")]
    assert of_tree(pieces) == of_source("x = f'ab{y}'")
    assert of_source("x = f'{y:}'") == of_source("x = f'{y}'")


def test_fields_that_newer_versions_add_count_only_where_they_are_used() -> None:
    """PEP 695 gives functions and classes `type_params`; on this version they are put in by hand."""
    plain = ast.parse("def f(): pass\nclass C: pass")
    for node in plain.body:
        node._fields = (*type(node)._fields, "type_params")
        node.type_params = []  # type: ignore[attr-defined]
    assert of_tree(plain) == of_source("def f(): pass\nclass C: pass")
    plain.body[0].type_params = [ast.Name("T", ast.Load())]  # type: ignore[attr-defined]
    assert of_tree(plain) != of_source("def f(): pass\nclass C: pass")


def test_fields_of_nodes_that_are_left_out_count_as_nothing() -> None:
    """Python 3.13 lets makers of nodes leave fields out, where older versions want None or a list."""
    node = ast.parse("return_ = 1")
    del node.body[0].type_comment  # type: ignore[attr-defined]
    assert of_tree(node) == of_source("return_ = 1")


def test_a_deep_sum_and_a_long_number_have_hashes() -> None:
    assert of_source("x = " + " + ".join(["1"] * 2000)) != of_source(
        "x = " + " + ".join(["1"] * 1999)
    )
    assert of_source("x = 0x" + "f" * 9000)
