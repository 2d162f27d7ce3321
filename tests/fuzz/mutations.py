"""Changes of files: at random places, and of one value inside a sound structure."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

Mutation = Callable[[random.Random, bytes], bytes]

BIG_NUMBER = "@big number@"  # stands for 5,000 digits, which json does not write
DEEP = "@deep@"  # for 100,000 brackets
TWICE = "@twice@"  # a key that is there twice

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 0.5, 1e308, -0.0, 1e-320,
    float("nan"), float("inf"), "", "x", "\x00", "\x1b[31m", "\ud800", "é" * 300, "../../etc",
    "a" * 100_000, [], [[]], [1, "a", None], {}, {"": 1}, {"a": {"b": []}}, BIG_NUMBER, DEEP,
    [0] * 10_000, 12, "12", "0" * 64, "NaN", 1024, 255, 65_536,
)  # fmt: skip


def at_random(rng: random.Random, content: bytes) -> bytes:
    """Return content that was cut, spliced, flipped or overwritten anywhere."""
    done = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(done) + 1)
        how = rng.randrange(7)
        if how == 0:
            done = done[:at]
        elif how == 1 and done:
            done[at % len(done)] ^= 1 << rng.randrange(8)
        elif how == 2:
            done[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
        elif how == 3:
            start = rng.randrange(len(content) + 1)
            done[at:at] = content[start : start + rng.randrange(1, 65)]
        elif how == 4:
            del done[at : at + rng.randrange(1, 65)]
        elif how == 5:
            done[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**62, 2**64 - 1)))
        else:
            done = bytearray(rng.randbytes(rng.choice((0, 1, 8, 100, 5000))))
    return bytes(done)


def json_text(value: Any) -> bytes:
    """Return JSON, with what json itself would not write."""
    text = json.dumps(value)
    text = text.replace(f'"{BIG_NUMBER}"', "9" * 5000).replace(f'"{DEEP}"', "[" * 100_000)
    return text.encode().replace(TWICE.encode(), b"")


def changed_json(rng: random.Random, value: Any) -> Any:
    """Return a copy of a JSON value in which one value, at any depth, is another, gone or new."""
    copy = json.loads(json.dumps(value))
    places = list(_places(copy))
    if not places or rng.random() < 0.02:
        return rng.choice(ODD_VALUES)
    inside, key = rng.choice(places)
    how = rng.randrange(6)
    if how == 0:
        del inside[key]
    elif how == 1 and isinstance(inside, dict):
        inside[rng.choice(("new", "", "schema", "sha256", "\x00", "id"))] = inside.pop(key)
    elif how == 2 and isinstance(inside, dict):
        inside[f"{key}{TWICE}"] = rng.choice(ODD_VALUES)
    elif how == 3:
        other, there = rng.choice(places)
        if not isinstance(other, list) or (isinstance(there, int) and there < len(other)):
            inside[key] = json.loads(
                json.dumps(other.get(there) if isinstance(other, dict) else other[there])
            )
    else:
        inside[key] = rng.choice(ODD_VALUES)
    return copy


def _places(value: Any) -> Any:
    """Yield every container of a JSON value with each of its keys."""
    if isinstance(value, dict | list):
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            yield value, key
            yield from _places(inner)


def changed_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Return a file whose header differs in one value and is a header all the same."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    if rng.random() < 0.3:  # a number that is none, in the first or another tensor
        bits = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff"))
        at = 4 * rng.randrange(len(body) // 4)
        return content[: 8 + length] + body[:at] + bits + body[at + 4 :]
    if rng.random() < 0.5:
        name = rng.choice([n for n in header if n != "__metadata__"])
        entry = header[name]
        how = rng.randrange(4)
        if how == 0:
            entry["dtype"] = rng.choice(("F32", "F16", "BF16", "F64", "I8", "U8", "BOOL", "I32", "I64",
                                         "F8_E4M3", "C64", "F4", "U64", "X"))  # fmt: skip
        elif how == 1:
            entry["shape"] = rng.choice(([], [0], [2**62, 4], [10**9, 10**9], [1] * 70,
                                         entry["shape"][::-1], [*entry["shape"], 1], [-1]))  # fmt: skip
        elif how == 2:
            entry["data_offsets"] = rng.choice(([0, 4], [4, 0], [0, 2**62], [2**63, 2**63], [0, 0]))
        else:
            header[rng.choice(("module.", "\x1b[31m", "x" * 5000, "")) + name] = header.pop(name)
    else:
        header = changed_json(rng, header)
    text = json_text(header)
    claimed = rng.choice((len(text),) * 6 + (0, 1, 2**40, 2**63, len(text) + 8))
    return struct.pack("<Q", claimed) + text + body


def toml_text(value: Any) -> str:
    """Write a dictionary as TOML, inline where it is nested."""
    return "".join(f"{_toml(str(k))} = {_toml(v)}\n" for k, v in value.items())


def _toml(value: Any) -> str:
    if value is None:
        return "1979-05-27"
    if isinstance(value, bool):
        return str(value).lower()
    if value == BIG_NUMBER:
        return "9" * 5000
    if value == DEEP:
        return "[" * 100_000
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)
