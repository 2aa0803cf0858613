"""The reader of safetensors files: what is there, and every kind of file that is refused by name."""

import gc
import json
import os
import pickle
import resource
import time
import tracemalloc
from importlib import import_module
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from dalle3_jax.checkpoints import tensors
from dalle3_jax.checkpoints.tensors import DTYPES, FLOATS, Tensors, have_same_bytes, is_finite

SCRIPTS = Path(__file__).parents[2] / "scripts"
WIDTHS = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}
DEEP = b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"


def packed(header: bytes | dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4), **more) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def one(name: str, kind: str, values: list[float], shape: tuple[int, ...] | None = None) -> bytes:
    array = np.array(values, FLOATS[kind])
    return safetensors.numpy.save({name: array if shape is None else array.reshape(shape)})


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


BAD = {
    "empty": (b"", "0 bytes and the file has 0: it is cut short"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS: run git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html>" + bytes(90), "a web page: fetch it again"),
    "seven bytes": (b"\2" + bytes(6), "cut short"),
    "no header": (bytes(8), "not JSON"),
    "header behind the end": (packed(b"{}", length=3), "says 3 bytes and the file has 10"),
    "header of 2^60 bytes": (packed(b"{}", length=2**60), f"says {2**60} bytes"),
    "header of 2^64 - 1 bytes": (packed(b"{}", length=2**64 - 1), "cut short or damaged"),
    "header too long": (packed(b"{}" + b" " * 2**23), "more than 2097152 is not believed"),
    "list": (packed(b"[]"), "not JSON"),
    "space before": (packed(b" {}"), "not JSON"),
    "not closed": (packed(b'{"a":'), "Expecting value"),
    "something behind": (packed(b"{} {}"), "Extra data"),
    "not UTF-8": (packed(b'{"\xff":0}'), "utf-8"),
    "deep": (packed(DEEP), "recursion"),
    "data that nobody owns": (packed({}, bytes(4)), "take 0 bytes and the file holds 4"),
    "cut short": (packed({"a": entry()}, bytes(3)), "take 4 bytes and the file holds 3"),
    "a gap": (packed({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)), "b begins at byte 8 where 4 comes next"),
    "an overlap": (packed({"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(offsets=(4, 8))}, bytes(8)), "b begins"),
    "the same bytes": (packed({"a": entry(), "b": entry()}, bytes(4)), "begins at byte 0 where 4 comes next"),
    "not from the start": (packed({"a": entry(offsets=(4, 8))}, bytes(8)), "a begins at byte 4 where 0"),
    "backwards": (packed({"a": entry(offsets=(4, 0))}, bytes(4)), "cannot take -4 bytes"),
    "shape and bytes differ": (packed({"a": entry(shape=(2,))}, bytes(4)), r"shape \(2,\) and type F32 cannot take 4"),
    "type and bytes differ": (packed({"a": entry("F16")}, bytes(4)), "type F16 cannot take 4 bytes"),
    "unknown type": (packed({"a": entry("F8_E4M3")}, bytes(4)), "type 'F8_E4M3'; known are F16, BF16, F32"),
    "no type": (packed({"a": entry([["F32"] * 99])}, bytes(4)), "of the type"),
    "negative size": (packed({"a": entry(shape=(-1, -1))}, bytes(4)), "holds -1, where only sizes belong"),
    "minus nothing": (packed(json.dumps({"a": entry()}).replace("[0,", "[-0,").encode(), bytes(4)), "holds -0"),
    "a fraction": (packed({"a": entry(shape=(1.0,))}, bytes(4)), r"holds 1\.0"),
    "infinity": (packed({"a": entry(shape=(float("inf"),))}, bytes(4)), "holds Infinity"),
    "NaN": (packed({"a": entry(shape=(float("nan"),))}, bytes(4)), "holds NaN"),
    "true": (packed({"a": entry(shape=(True,))}, bytes(4)), "whole numbers"),
    "text for a size": (packed({"a": entry(shape=("1",))}, bytes(4)), "whole numbers"),
    "a number too long": (packed(b'{"a":' + b"9" * 100_000 + b"}"), "9{20}, where only sizes"),
    "overflow to nothing": (packed({"a": entry(shape=(2**47, 2**47, 2**47, 0), offsets=(0, 0))}), "larger than any"),
    "nine axes": (packed({"a": entry(shape=(1,) * 9)}, bytes(4)), "has no shape"),
    "three places": (packed({"a": entry(offsets=(0, 4, 4))}, bytes(4)), "or no place"),
    "a field less": (packed({"a": {"dtype": "F32", "shape": [1]}}, bytes(4)), "a is not described by"),
    "a field more": (packed({"a": entry(order="F")}, bytes(4)), "a is not described by"),
    "no entry": (packed({"a": 1}, bytes(4)), "a is not described by"),
    "metadata that is a list": (packed({"__metadata__": []}), "__metadata__ is not a table of texts"),
    "metadata that nests": (packed({"__metadata__": {"a": {}}}), "__metadata__"),
    "half a character": (packed({"__metadata__": {"a": "\ud800"}}), "__metadata__"),
    "a name twice": (packed(b'{"a":1,"a":1}'), "occurs twice"),
    "a field twice": (packed(b'{"a":{"dtype":"F32","dtype":"F32"}}'), "occurs twice"),
    "metadata twice": (packed(b'{"__metadata__":{},"__metadata__":{}}'), "occurs twice"),
    "torch's zip": (b"PK\3\4" + bytes(99), "is a pickle .* safe_serialization=True"),
    "torch's old pickle": (
        b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
        "is a pickle .* make safetensors of it elsewhere",
    ),
    **{
        f"the name {name[:9]!r}": (packed({name: entry()}, bytes(4)), "is no name of a tensor")
        for name in (
            "../../x",
            "/x",
            "a/b",
            "a\\b",
            "",
            ".",
            "a..b",
            "a\n",
            "a\0",
            "é",
            "\ud800",
            "a b",
            "-a",
            "a" * 600,
        )
    },
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_refused_by_name_and_reason(kind, tmp_path):
    data, reason = BAD[kind]
    path = written(tmp_path / "bad.safetensors", data)
    with pytest.raises(ValueError, match=rf"{path} is not a weight file that can be trusted: (?s:.*){reason}") as error:
        Tensors(path)
    assert len(str(error.value)) < 1000


def test_a_file_that_is_not_there_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"none": "no such file", "": "it is no file", "pipe": "it is no file"}.items():
        with pytest.raises(ValueError, match=rf"{tmp_path / name} .*{reason}"):
            Tensors(tmp_path / name)


@pytest.mark.parametrize("size", [640, 896, 1152, 1408])
def test_a_header_whose_length_begins_like_a_pickle_is_none(size, tmp_path):
    header = json.dumps({"a": entry()}).encode().ljust(size)
    path = written(tmp_path / "x.safetensors", packed(header, np.float32(3).tobytes()))
    assert path.read_bytes()[:1] == b"\x80"
    np.testing.assert_array_equal(Tensors(path)["a"], [3])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_never_executed(protocol, tmp_path):
    data = pickle.dumps(Trap(tmp_path / "trapped"), protocol)
    for name in ("x.safetensors", "x.bin", "x.ckpt"):
        with pytest.raises(ValueError, match=rf"{name} is not a weight file"):
            Tensors(written(tmp_path / name, data))
        with pytest.raises(ValueError, match="not a weight file"):
            Tensors(written(tmp_path / name, packed(data, bytes(99))))
    assert not (tmp_path / "trapped").exists()
    pickle.loads(data)
    assert (tmp_path / "trapped").exists()


SPARSE = 8 * 10**9
LIES = {
    "header of 2^60 bytes": packed(b"{}", length=2**60),
    "header as long as the file": packed(b"{}", length=SPARSE - 8),
    "one tensor for all": packed({"a": entry(shape=(2**31,), offsets=(0, 2**33))}),
    "nothing for all": packed({"a": entry(offsets=(0, 4))}),
    "30 MB of lists": packed(b'{"a":' + b"[" * 15_000_000 + b"]" * 15_000_000 + b"}"),
    "deep": packed(DEEP),
    "wide": packed(b'{"a":[' + b"[[]]," * 200_000 + b"0]}"),
    "wider": packed(b'{"a":[' + b"[]," * 340_000 + b"0]}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_file_takes_no_memory_and_no_time(lie, tmp_path):
    path = written(tmp_path / "x.safetensors", LIES[lie])
    os.truncate(path, SPARSE)
    gc.freeze()  # what other tests left behind is not to be searched for garbage here
    resident, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        with pytest.raises(ValueError, match=path.name):
            Tensors(path)
    finally:
        gc.unfreeze()
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 100_000


def test_a_large_good_file_is_mapped_not_read(tmp_path):
    path = written(tmp_path / "x.safetensors", packed({"a": entry(shape=(2**31,), offsets=(0, 2**33))}))
    os.truncate(path, path.stat().st_size + 2**33)
    tracemalloc.start()
    try:
        found = Tensors(path)
        assert found.shape("a") == found["a"].shape == (2**31,)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", DTYPES)
def test_every_type_is_read_as_the_library_reads_it(kind, tmp_path):
    dtype = DTYPES[kind]
    bits = np.random.default_rng(0).integers(0, 2 if kind == "BOOL" else 256, 24 * dtype.itemsize, np.uint8)
    stored = {
        "some": bits.view(dtype).reshape(2, 3, 4),
        "none": np.empty((0, 3), dtype),
        "one": bits[: dtype.itemsize].view(dtype).reshape(()),
    }
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(stored, path, {"note": "é \\u202e"})
    found = Tensors(path)
    theirs = safetensors.numpy.load_file(path)
    assert found.keys() == theirs.keys() == stored.keys()
    for name, value in stored.items():
        assert found.dtype(name) == found[name].dtype == dtype
        assert found.shape(name) == found[name].shape == value.shape
        assert have_same_bytes(found[name], value)
        assert have_same_bytes(theirs[name], value)
        assert not found[name].flags.writeable


def test_a_tensor_may_begin_at_an_odd_byte(tmp_path):
    header = json.dumps({"b": entry("U8", (3,), (0, 3)), "a": entry("F32", (2, 1), (3, 11))}).encode()
    data = packed(header.ljust(len(header) // 2 * 2 + 1), b"\1\2\3" + np.array([1.5, -2], np.float32).tobytes())
    found = Tensors(written(tmp_path / "x.safetensors", data))
    np.testing.assert_array_equal(found["a"], [[1.5], [-2]])
    assert is_finite(found["a"])
    assert list(found) == ["b", "a"]


def test_order_of_bytes_counts_not_order_of_the_header(tmp_path):
    header = {"z": entry(offsets=(4, 8)), "none": entry(shape=(0,), offsets=(4, 4)), "a": entry(offsets=(0, 4))}
    data = packed(header, np.array([1, 2], np.float32).tobytes())
    found = Tensors(written(tmp_path / "x.safetensors", data))
    assert list(found) == ["a", "none", "z"]
    assert (found["a"], found["z"]) == (1, 2)


def test_a_file_may_hold_no_tensor(tmp_path):
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file({}, path)
    assert dict(Tensors(path)) == {}


def test_any_tensor_may_be_read_ahead(tmp_path):
    header = json.dumps({"a": entry("U8", (4096,), (0, 4096)), "none": entry(shape=(0,), offsets=(4096, 4096))})
    path = written(tmp_path / "x.safetensors", packed(header.encode().ljust(4088), bytes(4096)))
    found = Tensors(path)
    for name in found:
        found.warm(name)
    safetensors.numpy.save_file({"none": np.empty(0)}, tmp_path / "y.safetensors")
    Tensors(tmp_path / "y.safetensors").warm("none")


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 9])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(kind, size, monkeypatch):
    monkeypatch.setattr(tensors, "BLOCK", 4)
    largest = jnp.finfo(FLOATS[kind]).max
    sound = np.full(size, largest, FLOATS[kind])
    sound[::2] = -largest
    assert is_finite(sound)
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        for place in range(size):
            broken = sound.copy()
            broken[place] = value
            assert not is_finite(broken)
            assert not is_finite(broken.reshape(1, -1, 1).T)


@pytest.mark.parametrize("kind", FLOATS)
def test_every_payload_of_nan_counts(kind):
    width = 8 * WIDTHS[kind]
    infinity = int(np.array(np.inf, FLOATS[kind]).view(f"u{WIDTHS[kind]}"))
    for bits, finite in {infinity - 1: True, infinity: False, infinity + 1: False, 2 ** (width - 1) - 1: False}.items():
        for sign in (0, 1 << (width - 1)):
            assert is_finite(np.array([0, bits | sign], f"u{WIDTHS[kind]}").view(FLOATS[kind])) == finite


def test_nothing_and_scalars_are_finite_too():
    assert is_finite(np.empty((3, 0), np.float32))
    assert is_finite(np.array(1, np.float16))
    assert not is_finite(np.array(np.nan, np.float16))


def test_equal_is_by_bytes_type_and_shape(monkeypatch):
    monkeypatch.setattr(tensors, "BLOCK", 4)
    a = np.arange(7, dtype=np.float32)
    a[3] = np.nan
    assert have_same_bytes(a, a.copy())
    for place in range(7):
        b = a.copy()
        b[place] += 1
        b[3] = a[3] if place != 3 else 1
        assert not have_same_bytes(a, b)
    assert not have_same_bytes(a, a.reshape(7, 1))
    assert not have_same_bytes(a, a.view(np.int32))
    assert not have_same_bytes(np.float32([0.0]), np.float32([-0.0]))
    assert have_same_bytes(np.empty(0), np.empty(0))
    assert have_same_bytes(a[:6].reshape(2, 3).T, np.ascontiguousarray(a[:6].reshape(2, 3).T))


@pytest.fixture
def fuzzing(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return import_module("fuzz_safetensors")


def test_mutated_headers_are_refused_or_read_as_the_library_reads_them(fuzzing, tmp_path):
    found = list(fuzzing.fuzz(tmp_path, 500, seed=1))
    assert [(kind, outcome.failure) for kind, outcome in found if outcome.failure] == []
    kinds = import_module("safetensors_mutations")
    assert {kind for kind, _ in found} == {*kinds.HEADERS, *kinds.FILES}
    verdicts = {outcome.verdict for _, outcome in found}
    assert verdicts > {"read: the same tensors", "read: other tensors", "refused: gap or overlap", "refused: bad name"}


@pytest.mark.parametrize(
    ("name", "careless"),
    [
        ("_reject_duplicate_names", dict),
        ("_whole_number", int),
        ("_is_text", lambda value: True),
        ("_are_sizes", lambda values: True),
        ("_check_header", lambda header, size: {n: (np.dtype("u1"), (1,), 0, 1) for n in header if n[:2] != "__"}),
    ],
)
def test_the_mutations_find_a_careless_reader(name, careless, fuzzing, tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, name, careless)
    assert any(outcome.failure for _, outcome in fuzzing.fuzz(tmp_path, 1500, seed=0))
