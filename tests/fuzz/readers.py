"""Every reader of files that others may have written, with a sound file and changes of it.

A reader returns True where what it read is what the file says, by another way of reading it.
"""

import dataclasses
import hashlib
import io
import json
import pickle
import random
import struct
import tempfile
import tomllib
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import (
    ODD_VALUES,
    Mutation,
    changed_json,
    changed_safetensors,
    json_text,
    toml_text,
)
from PIL import Image
from safetensors.torch import load_file, save
from small_networks import small_conv

from bench.data.decoding import MOST_MEGAPIXELS
from bench.data.decoding import decode as decode_image
from bench.datasets.cifar import Cifar10
from bench.datasets.mnist import Mnist
from bench.graph.trace import layout_of
from bench.measure.codec import Shared, decode, encode, sizes
from bench.plan.request import Request, requests
from bench.store.json_values import RecordError
from bench.store.phase_cache import PhaseStore
from bench.store.phase_records import Cost, TrainingPhase
from bench.store.records import (
    Record,
    read_cost,
    read_environment,
    read_error,
    read_handover,
    read_plan,
    read_result,
    read_spec,
    sealed,
)
from bench.store.trial_identity import TrialSpec
from bench.training.pretrained import check_file, fitted, identity_of, load

SPEC = TrialSpec("magnitude", 1, "lenet-300-100", "digits", 0, target=2, options={"step": 0.5})
KEY = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Attributes:
        file: the file's name, with its folder.
        sound: its content.
        change: a change that leaves the structure of the file sound.
        is_right: reads a file; False where it read something else than is there.
        pixels: of a photograph, for which its reader needs time and memory; 0 of other files.
    """

    name: str
    file: str
    sound: bytes
    change: Mutation
    is_right: Callable[[Path], bool]
    pixels: Callable[[Path], int] = lambda path: 0


# -- records -----------------------------------------------------------------------------------------


def _record(
    name: str, file: str, content: Any, read: Callable[[Path], Record], is_sealed: bool = False
) -> Reader:
    def change(rng: random.Random, _: bytes) -> bytes:
        changed = changed_json(rng, content)
        if is_sealed and isinstance(changed, dict) and rng.random() < 0.7:
            plain = {k: v for k, v in changed.items() if k != "sha256"}
            with suppress(ValueError):
                changed = sealed(plain)
        return json_text(changed)

    def is_right(path: Path) -> bool:
        taken = read(path).as_json()
        there = json.loads(path.read_bytes().decode(), object_hook=_with_schema)
        return json.dumps(taken, sort_keys=True) == json.dumps(there, sort_keys=True)

    return Reader(name, file, json_text(content), change, is_right)


def _with_schema(value: dict[str, Any]) -> dict[str, Any]:
    """Return a specification as its id is made of it: with the schema, without what is the default."""
    if not {"method", "method_version"} <= value.keys():
        return value
    plain = {k: v for k, v in value.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
    return {"schema": 1, **plain}


_DEFAULTS = {
    f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
    for f in dataclasses.fields(TrialSpec)
}


def _result() -> Any:
    metrics = {
        "n_test": 256, "collapsed": False, "test_loss": 0.25, "validation_loss": 0.5, "top1": 91.5,
        "params_dense": 100, "params_effective": 50, "pruning_rate": 0.5, "compression": 2.0,
        "macs_dense": 100, "macs_effective": 50, "speedup_theoretical": 2.0,
        "epochs_total": 4, "images_seen": 1000,
        "units": {"fc1": {"kept": 3, "of": 4}}, "live": {"fc1": {"live": 3, "of": 4, "place": 0}},
        "file_layers": [{"name": "fc1", "header": 1, "positions": 2, "values": 3, "codebook": 4,
                         "tables": 5, "raw": 6, "checksum": 7}],
    }  # fmt: skip
    return sealed({
        "schema": 1, "id": SPEC.id, "spec": SPEC.as_json(), "metrics": metrics,
        "curves": {"rate": {"marked": 0.5, "rows": [{"rate": 0.5, "loss": 1.0}]}},
        "kept": {"dense": metrics}, "unreachable": False,
        "control": {"start": "init", "rounds": [{"fc1": 3}], "retrains": True, "lr_scale": 0.1},
        "phases": [KEY], "files": {"model.safetensors": "0" * 64},
    })  # fmt: skip


def _cost() -> Any:
    setup = {"effort": "quick", "device": "cpu", "threads": 1, "dtype": "float32",
             "batch_sizes": [1, 64], "torch": "2"}  # fmt: skip
    work = {"trainings": 1, "trainings_reused": 0, "epochs": 2, "images_seen": 3, "phases_computed": 1,
            "phases_reused": 0, "waited_seconds": 0.5}  # fmt: skip
    return sealed({"id": SPEC.id, "train_seconds": 1.5, "peak_memory_mb": 300, "work": work,
                   "latency": {"setup": setup, "latency_ms_p50": 1.25, "note": "x"}})  # fmt: skip


def _records() -> list[Reader]:
    home = f"trials/{SPEC.id}"
    spec = SPEC.as_json()
    return [
        _record("result.json", f"{home}/result.json", _result(), read_result, is_sealed=True),
        _record("cost.json", f"{home}/cost.json", _cost(), read_cost, is_sealed=True),
        _record("spec.json", f"{home}/spec.json", {
            "spec": spec, "resolved": {"options": {"step": 0.5}, "recipe": {"lr": 0.1}},
            "sources": {"method": "0" * 32}, "data": {"path": "/x", "classes": ["a", "b"]},
        }, read_spec),
        _record("env.json", f"{home}/env.json", {
            "device": "cpu", "threads": 1, "versions": {"torch": "2", "x": None}, "flags": ["run"],
        }, read_environment),
        _record("error.json", f"{home}/error.json",
                {"error": "no", "traceback": "at", "unexpected": True}, read_error),
        _record("plan.json", "plan.json", {
            "schema": 1, "trials": {SPEC.id: {"spec": spec, "depends_on": ["0" * 12]}},
        }, read_plan),
        _record("handover.json", f"{home}/handover.json", {
            "control": {"start": "init", "rounds": [{"fc1": 3}]}, "kept": ["dense"], "code": {"n": "0"},
            "curves": {"rate": {"marked": 1, "rows": [{"rate": 1}]}}, "unreachable": False,
            "cost": {"epochs_total": 1, "images_seen": 2}, "phases": [KEY], "validation": "0" * 64,
        }, read_handover),
    ]  # fmt: skip


# -- suites ------------------------------------------------------------------------------------------


def _suite() -> Reader:
    content = {
        "methods": ["magnitude", "random"], "models": "lenet-5", "datasets": "digits",
        "targets": [2, 8.0], "seeds": "0-2", "controls": "all", "budget": "smoke",
        "options": {"magnitude": {"step": [0.5, 0.25]}, "recipe": {"lr": 0.1}},
        "run": [{"methods": "dropnet", "weights": "w.safetensors"}, {"coupling": "branch"}],
    }  # fmt: skip

    def is_right(path: Path) -> bool:
        found = requests(path, {}, [])
        there = tomllib.loads(path.read_text(encoding="utf-8"))
        blocks = there.get("run") or [{}]
        return len(found) == len(blocks) and all(
            repr(getattr(request, name)) == repr(block.get(name, there.get(name, getattr(Request(), name))))
            for request, block in zip(found, blocks, strict=True)
            for name in Request.model_fields if name != "options"
        )  # fmt: skip

    def change(rng: random.Random, _: bytes) -> bytes:
        changed = changed_json(rng, content)
        values = changed if isinstance(changed, dict) else {"methods": changed}
        return toml_text(values).encode("utf-8", "surrogatepass")

    return Reader("suite TOML", "suite.toml", toml_text(content).encode(), change, is_right)


# -- tensors -----------------------------------------------------------------------------------------


def _weights() -> Reader:
    torch.manual_seed(3)
    network = small_conv()
    layout = layout_of(network, torch.zeros(1, 1, 8, 8))
    state = {k: v.contiguous() for k, v in network.state_dict().items()}

    def is_right(path: Path) -> bool:
        identity = identity_of("small", str(path))
        check_file(path, network, layout, "small")
        taken = fitted(load("small", identity, path), network, layout, "it")
        given = {k.removeprefix("module."): v for k, v in load_file(path).items()}
        are_given = taken.tensors.keys() & given.keys() - set(taken.fresh)
        return all(torch.isfinite(t).all() for t in taken.tensors.values()) and all(
            torch.equal(taken.tensors[n], given[n].to(taken.tensors[n].dtype)) for n in are_given
        )

    return Reader("weights", "w.safetensors", save(state), changed_safetensors, is_right)


def _phase() -> Reader:
    tensors = {"model/weight": torch.rand(6, 5), "mask/weight": torch.ones(6, 5, dtype=torch.bool)}
    record = TrainingPhase(
        cost=Cost(epochs=1), log=[{"loss": 1.5}], callback={"a": 1}, at_floor=False
    )
    holder = io.BytesIO()

    def made(folder: Path) -> bytes:
        store = PhaseStore(folder)
        store.save(KEY, record, tensors)
        return (folder / f"{KEY}.safetensors").read_bytes()

    def is_right(path: Path) -> bool:
        told: list[str] = []
        found = PhaseStore(path.parent, told.append).load(KEY, TrainingPhase)
        if found is None:
            if len(told) != 1 or "is damaged" not in told[0]:
                return False
            raise RecordError(told[0])
        given = load_file(path)
        return found.tensors.keys() == given.keys() and all(
            _has_bits_of(tensor, given[name]) for name, tensor in found.tensors.items()
        )

    with tempfile.TemporaryDirectory() as folder:
        holder.write(made(Path(folder)))

    def change(rng: random.Random, content: bytes) -> bytes:
        changed = changed_safetensors(rng, content)
        return _phase_sealed(changed) if rng.random() < 0.6 else changed

    return Reader("phase", f"phases/{KEY}.safetensors", holder.getvalue(), change, is_right)


def _has_bits_of(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Compare bit for bit: NaN equals itself."""
    bits = [t.contiguous().view(-1).view(torch.uint8) for t in (first, second) if t.numel()]
    return first.shape == second.shape and (not bits or torch.equal(*bits))


def _phase_sealed(content: bytes) -> bytes:
    """Give a file of the cache the checksum of what is in it, where it is still a file of tensors."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        meta = header["__metadata__"]
        value = zlib.crc32(meta["record"].encode())
        body = content[8 + length :]
        names = {"F32": torch.float32, "BOOL": torch.bool}
        for name in sorted(n for n in header if n != "__metadata__"):
            first, last = header[name]["data_offsets"]
            shape = tuple(header[name]["shape"])
            head = f"\0{name}\0{names[header[name]['dtype']]}\0{shape}\0".encode()
            value = zlib.crc32(body[first:last], zlib.crc32(head, value))
        meta["checksum"] = f"{value:08x}"
        text = json.dumps(header).encode()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return content
    return struct.pack("<Q", len(text)) + text + body


def _compressed() -> Reader:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(8, 9, generator=generator) > 0.6
    assignment = torch.randint(3, (int(mask.sum()),), generator=generator)
    shared = _shared(mask, assignment)
    content = encode(
        {"fc1.weight": shared, "fc1.bias": torch.rand(8, generator=generator)},
        facts={"model": "lenet-300-100", "dataset": "digits"}, index_bits="best", entropy="huffman",
    )  # fmt: skip

    def change(rng: random.Random, given: bytes) -> bytes:
        body = bytearray(given[:-8])
        at = rng.randrange(4, len(body))
        how = rng.randrange(4)
        if how == 0:
            body[at] = rng.choice((0, 1, 127, 128, 255, body[at] ^ 1, body[at] + 1 & 255))
        elif how == 1:
            body[at : at + 1] = rng.choice(
                (b"\xff\xff\xff\xff\x0f", b"\xff" * 8 + b"\x7f", b"\x80\x01")
            )
        elif how == 2:
            del body[at : at + rng.randrange(1, 4)]
        else:
            body[at:at] = rng.randbytes(rng.randrange(1, 4))
        return bytes(body) + hashlib.sha256(body).digest()[:8]

    def is_right(path: Path) -> bool:
        data = path.read_bytes()
        found = decode(data)
        assert sum(row.total for row in sizes(data)) == len(data)
        again = encode(
            found.content, facts=found.facts, index_bits=found.index_bits, entropy=found.entropy
        )  # type: ignore[arg-type]
        other = decode(again)
        return all(_has_bits_of(tensor, other.tensors[n]) for n, tensor in found.tensors.items())

    return Reader("dc", "model.dc", content, change, is_right)


def _shared(mask: torch.Tensor, assignment: torch.Tensor) -> Shared:
    whole = torch.zeros(mask.shape, dtype=torch.uint8)
    whole[mask] = assignment.to(torch.uint8)
    return Shared(
        shape=tuple(mask.shape),
        mask=mask,
        codebook=torch.tensor([-1.0, 0.5, 2.0]),
        assignment=whole,
    )


# -- data sets and images ----------------------------------------------------------------------------


def _idx() -> Reader:
    pixels = bytes(range(2 * 28)) * 28
    content = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 28, 28) + pixels

    def change(rng: random.Random, given: bytes) -> bytes:
        sizes_ = list(struct.unpack(">3I", given[4:16]))
        body = given[16:]
        how = rng.randrange(3)
        if how == 0:
            sizes_[rng.randrange(3)] = rng.choice((0, 1, 2, 27, 2**16, 2**31, 2**32 - 1))
        elif how == 1:
            sizes_ = rng.choice(
                ([2**32 - 1] * 3, [2**22, 2**21, 2**21], [0, 0, 0], [1, 56, 28], [4, 14, 28])
            )
        magic = bytes([0, 0, rng.choice((8, 8, 9, 13)), rng.choice((3, 3, 1, 2, 255))])
        if how == 2:
            body = body[: rng.randrange(len(body))]
        return (magic if rng.random() < 0.5 else given[:4]) + struct.pack(">3I", *sizes_) + body

    def is_right(path: Path) -> bool:
        found = Mnist()._idx(path, dimensions=3)
        data = path.read_bytes()
        return (tuple(found.shape) == struct.unpack(">3I", data[4:16])
                and found.numpy().tobytes() == data[16:])  # fmt: skip

    return Reader("idx", "MNIST/raw/train-images-idx3-ubyte", content, change, is_right)


class _Runs:
    """What a pickle may call when it is read."""

    def __reduce__(self) -> Any:
        return (open, ("a-pickle-ran", "w"))


def _cifar() -> Reader:
    table = np.arange(2 * 3072, dtype=np.int64).astype(np.uint8).reshape(2, 3072)
    whole = {b"data": table, b"labels": [3, 9], b"filenames": [b"a.png", b"b.png"]}

    def change(rng: random.Random, _: bytes) -> bytes:
        made: dict[Any, Any] = dict(whole)
        odd = [v for v in ODD_VALUES if not isinstance(v, str) or "@" not in v]
        how = rng.randrange(6)
        if how == 0:
            made[rng.choice((b"data", b"labels"))] = rng.choice(odd)
        elif how == 1:
            made[b"data"] = rng.choice((table[:1], table.T, table.astype(np.float32), table[:, :-1],
                                        table.reshape(-1), table[:0], np.asfortranarray(table)))  # fmt: skip
        elif how == 2:
            made[b"labels"] = rng.choice(
                ([3], [3, 10], [-1, 2], [True, 1], [2**70, 1], (3, 9), [1.0, 2.0])
            )
        elif how == 3:
            made[rng.choice((b"x", b"data", b"labels"))] = _Runs()
        elif how == 4:
            return b"(" * rng.choice((1, 1000, 100_000)) + b"l" * rng.choice((1, 1000)) + b"."
        else:
            index = struct.pack("<I", rng.choice((2**16, 2**24, 2**28, 2**31, 2**32 - 1)))
            return rng.choice((
                b"\x80\x02]r" + index + b".", b"\x80\x02}X" + index + b"abc.", b"\x80\x02\x8b" + index + b".",
                b"\x80\x04\x95" + index * 2 + b".", b"\x80\x04\x8d" + index * 2 + b".",
                b"\x80\x04\x8e" + index * 2 + b".", b"]p" + str(2**33).encode() + b"\n.",
            ))  # fmt: skip
        return pickle.dumps(made, protocol=rng.randrange(6))

    def is_right(path: Path) -> bool:
        root = path.parent.parent
        found = Cifar10()._read(root, "data_batch_1")
        n = len(found)
        return (
            found.x.shape == (n, 3, 32, 32) and 0 <= int(found.y.min()) <= int(found.y.max()) < 10
        )

    sound = pickle.dumps(whole, protocol=2)
    return Reader("CIFAR", "cifar-10-batches-py/data_batch_1", sound, change, is_right)


def _image(kind: str) -> Reader:
    pixels = np.random.default_rng(4).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    holder = io.BytesIO()
    Image.fromarray(pixels).save(holder, kind)
    content = holder.getvalue()

    def change(rng: random.Random, given: bytes) -> bytes:
        if kind == "PNG":
            return _changed_png(rng, given)
        done = bytearray(given)
        at = rng.randrange(min(len(done) - 4, 700))
        done[at : at + 2] = rng.choice(
            (b"\xff\xff", b"\x00\x00", b"\x7f\xff", b"\x00\x01", b"\xff\xd9")
        )
        return bytes(done)

    def is_right(path: Path) -> bool:
        found = decode_image(path, 32)
        return found.shape == (3, 32, 32) and found.dtype == np.uint8

    ending = kind.lower()
    return Reader(f"image {kind}", f"photos/cat/a.{ending}", content, change, is_right, _pixels)


def _pixels(path: Path) -> int:
    """Count the pixels that an image says it has; 0 where it has more than are decoded."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            pixels = image.width * image.height
            return pixels if pixels <= MOST_MEGAPIXELS * 1e6 else 0
    return 0


def _changed_png(rng: random.Random, given: bytes) -> bytes:
    """Change one field of one chunk, and give the chunk the checksum that it then has."""
    chunks, at = [], 8
    while at < len(given):
        (length,) = struct.unpack(">I", given[at : at + 4])
        chunks.append((given[at + 4 : at + 8], bytearray(given[at + 8 : at + 8 + length])))
        at += 12 + length
    which = rng.randrange(len(chunks))
    kind, body = chunks[0] if rng.random() < 0.6 else chunks[which]
    how = rng.randrange(4)
    if kind == b"IHDR" and how < 2:
        at = rng.choice((0, 4))
        body[at : at + 4] = struct.pack(
            ">I", rng.choice((0, 1, 2**15, 2**20, 2**31 - 1, 2**32 - 1, 65_535))
        )
    elif kind == b"IHDR" and how == 2:
        body[rng.randrange(8, 13)] = rng.randrange(256)
    elif body:
        body[rng.randrange(len(body))] = rng.randrange(256)
    if rng.random() < 0.3:
        text = rng.choice((b"tEXt", b"zTXt", b"iTXt", b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"fcTL"))
        chunks.insert(rng.randrange(1, len(chunks)), (text, bytearray(rng.choice(
            (b"", b"a\0\0" + zlib.compress(bytes(10_000_000)), rng.randbytes(30))))))  # fmt: skip
    return given[:8] + b"".join(
        struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + bytes(b)))
        for k, b in chunks
    )


def readers() -> list[Reader]:
    """Return all readers."""
    of_images = [_image(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")]
    return [
        *_records(),
        _suite(),
        _weights(),
        _phase(),
        _compressed(),
        _idx(),
        _cifar(),
        *of_images,
    ]
