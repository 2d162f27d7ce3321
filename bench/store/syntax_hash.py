"""The hash of a Python source's syntax tree, equal on every version of Python that can read it.

`ast.dump` writes what its own version knows of a node. Here a table says which fields of which node
count: what a newer version adds to a node counts only where it is used, which an older one could not
have read at all. Comments, docstrings, layout and positions do not count.
"""

import ast
import hashlib
from collections.abc import Iterator

# The grammar of Python 3.11 without positions, contexts, comments on types and the u of u"".
_FIELDS: dict[str, tuple[str, ...]] = {
    "Module": ("body",),
    "FunctionDef": ("name", "args", "body", "decorator_list", "returns"),
    "AsyncFunctionDef": ("name", "args", "body", "decorator_list", "returns"),
    "ClassDef": ("name", "bases", "keywords", "body", "decorator_list"),
    "Return": ("value",),
    "Delete": ("targets",),
    "Assign": ("targets", "value"),
    "AugAssign": ("target", "op", "value"),
    "AnnAssign": ("target", "annotation", "value", "simple"),
    "For": ("target", "iter", "body", "orelse"),
    "AsyncFor": ("target", "iter", "body", "orelse"),
    "While": ("test", "body", "orelse"),
    "If": ("test", "body", "orelse"),
    "With": ("items", "body"),
    "AsyncWith": ("items", "body"),
    "Match": ("subject", "cases"),
    "Raise": ("exc", "cause"),
    "Try": ("body", "handlers", "orelse", "finalbody"),
    "TryStar": ("body", "handlers", "orelse", "finalbody"),
    "Assert": ("test", "msg"),
    "Import": ("names",),
    "ImportFrom": ("module", "names", "level"),
    "Global": ("names",),
    "Nonlocal": ("names",),
    "Expr": ("value",),
    "Pass": (),
    "Break": (),
    "Continue": (),
    "BoolOp": ("op", "values"),
    "NamedExpr": ("target", "value"),
    "BinOp": ("left", "op", "right"),
    "UnaryOp": ("op", "operand"),
    "Lambda": ("args", "body"),
    "IfExp": ("test", "body", "orelse"),
    "Dict": ("keys", "values"),
    "Set": ("elts",),
    "ListComp": ("elt", "generators"),
    "SetComp": ("elt", "generators"),
    "DictComp": ("key", "value", "generators"),
    "GeneratorExp": ("elt", "generators"),
    "Await": ("value",),
    "Yield": ("value",),
    "YieldFrom": ("value",),
    "Compare": ("left", "ops", "comparators"),
    "Call": ("func", "args", "keywords"),
    "FormattedValue": ("value", "conversion", "format_spec"),
    "JoinedStr": ("values",),
    "Constant": ("value",),
    "Attribute": ("value", "attr"),
    "Subscript": ("value", "slice"),
    "Starred": ("value",),
    "Name": ("id",),
    "List": ("elts",),
    "Tuple": ("elts",),
    "Slice": ("lower", "upper", "step"),
    "comprehension": ("target", "iter", "ifs", "is_async"),
    "ExceptHandler": ("type", "name", "body"),
    "arguments": (
        "posonlyargs", "args", "vararg", "kwonlyargs", "kw_defaults", "kwarg", "defaults",
    ),
    "arg": ("arg", "annotation"),
    "keyword": ("arg", "value"),
    "alias": ("name", "asname"),
    "withitem": ("context_expr", "optional_vars"),
    "match_case": ("pattern", "guard", "body"),
    "MatchValue": ("value",),
    "MatchSingleton": ("value",),
    "MatchSequence": ("patterns",),
    "MatchMapping": ("keys", "patterns", "rest"),
    "MatchClass": ("cls", "patterns", "kwd_attrs", "kwd_patterns"),
    "MatchStar": ("name",),
    "MatchAs": ("pattern", "name"),
    "MatchOr": ("patterns",),
}  # fmt: skip
_LEFT_OUT = {"ctx", "type_comment", "type_ignores", "kind"}
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def of_source(source: str | bytes) -> str:
    """Return the hash of a module's code.

    Raises:
        SyntaxError: it is not Python.
        ValueError: it holds a zero byte.
    """
    return of_tree(ast.parse(source))


def of_tree(tree: ast.Module) -> str:
    """Return the hash of a module's syntax tree as 32 hex digits."""
    digest = hashlib.sha256()
    for word in _words(tree):
        data = word.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data) + data)  # with its length: no two texts run together
    return digest.hexdigest()[:32]


def _words(tree: ast.Module) -> Iterator[str]:
    """Yield the tree as words from top to bottom; a stack, for sums of a thousand terms are deep."""
    waiting: list[object] = [tree]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, ast.AST):
            fields = _fields(thing)
            yield f"node {type(thing).__name__} {len(fields)}"
            for name, value in reversed(fields):
                waiting += [value, name]
        elif isinstance(thing, list):
            yield f"list {len(thing)}"
            waiting += reversed(thing)
        else:
            yield type(thing).__name__
            yield _text(thing)


def _fields(node: ast.AST) -> list[tuple[str, object]]:
    """Return what counts of a node: the fields of the table, and newer ones that are used."""
    names = _FIELDS.get(type(node).__name__, ())
    newer = [n for n in node._fields if n not in names and n not in _LEFT_OUT]
    fields = [(name, getattr(node, name, None)) for name in names]
    fields += [(n, getattr(node, n)) for n in newer if getattr(node, n, None) not in (None, [])]
    if isinstance(node, _WITH_DOCSTRING):
        return [(n, _without_docstring(node.body) if n == "body" else v) for n, v in fields]
    if isinstance(node, ast.JoinedStr):
        return [("values", _joined(node.values))]
    if isinstance(node, ast.FormattedValue):
        spec = node.format_spec
        is_empty = isinstance(spec, ast.JoinedStr) and not _joined(spec.values)
        return [(n, None if n == "format_spec" and is_empty else v) for n, v in fields]
    return fields


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return body
    return (body[1:] or [ast.Pass()]) if isinstance(first.value.value, str) else body


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with texts that stand side by side as one: versions differ."""
    found: list[ast.expr] = []
    for part in values:
        before = found[-1] if found else None
        if isinstance(part, ast.JoinedStr):
            found = _joined([*found, *part.values])
        elif not isinstance(part, ast.Constant):
            found.append(part)
        elif isinstance(before, ast.Constant):
            found[-1] = ast.Constant(str(before.value) + str(part.value))
        elif part.value != "":
            found.append(part)
    return found


def _text(value: object) -> str:
    """Return a constant's text; that of `repr` depends on which characters a version can print."""
    if isinstance(value, str):
        return value
    # Long numbers have no decimal text (sys.set_int_max_str_digits).
    return hex(value) if type(value) is int else repr(value)
