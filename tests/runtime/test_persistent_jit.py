"""Programs that later processes read from files: what is traced again, what is not, and that the numbers stay."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion.schedules import Cosine
from dalle3_jax.nn.layers import sinusoids
from dalle3_jax.runtime import persistent_files
from dalle3_jax.runtime.persistent_files import (
    describe_static,
    persistent_path,
    read_persistent,
    write_persistent,
)
from dalle3_jax.runtime.persistent_jit import PersistentProgram, persistent_jit


@pytest.fixture(autouse=True)
def folder(tmp_path: Path):
    """An empty folder of programs."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def process() -> Callable[[], tuple[PersistentProgram, list]]:
    """What starts another process: the program as it is there, and where its tracings are counted."""

    def start() -> tuple[PersistentProgram, list]:
        traced = []

        @persistent_jit(("power", "schedule"))
        def wave(tree, x, *, power=2, schedule=None):
            traced.append(power)
            phase = x if schedule is None else schedule.alpha(x)
            return {"y": sinusoids(phase * tree["w"], 4) ** power + jnp.sum(jnp.exp(x) / 3)}

        return wave, traced

    return start


INPUTS = {"w": np.linspace(0, 1, 7, dtype=np.float32)}, np.linspace(0, 1, 7, dtype=np.float32)


def test_a_second_process_traces_nothing_and_computes_the_same(process, folder):
    (first, traced), (second, traced_again) = process(), process()
    results = [np.asarray(program(*INPUTS, power=3)["y"]) for program in (first, first, second)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    plain = sinusoids(jnp.asarray(INPUTS[1] * INPUTS[0]["w"]), 4) ** 3 + np.sum(np.exp(INPUTS[1]) / 3)
    np.testing.assert_allclose(results[0], plain, rtol=1e-5)
    assert traced == [3]
    assert traced_again == []
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"power": 5},
        {"schedule": Cosine()},
        {"schedule": Cosine(s=0.0081)},
        {"x": np.zeros(8, np.float32), "tree": {"w": np.zeros(8, np.float32)}},
        {"x": np.zeros(7, np.float16)},
        {"tree": {"w": INPUTS[0]["w"], "v": INPUTS[1]}},
    ],
)
def test_whatever_decides_a_program_has_another_file(process, changed):
    start = dict(zip(("tree", "x"), INPUTS, strict=True))
    process()[0](**start, schedule=Cosine(s=0.01))
    program, traced = process()
    program(**{**start, "schedule": Cosine(s=0.01), **changed})
    assert len(traced) == 1


def test_other_sources_libraries_and_settings_have_another_file(process, monkeypatch):
    def traces() -> int:
        program, traced = process()
        program(*INPUTS)
        return len(traced)

    assert (traces(), traces()) == (1, 0)
    with jax.default_matmul_precision("highest"):
        assert traces() == 1
    with monkeypatch.context() as patch:
        patch.setattr(persistent_files, "_sources_digest", lambda folder: "other")
        assert traces() == 1
    with monkeypatch.context() as patch:
        patch.setattr("jax.__version__", "0.0.1")
        assert traces() == 1
    assert traces() == 0


@pytest.fixture
def digest(tmp_path):
    """The digest of the sources in a folder, as of a process that begins now."""

    def digest() -> str:
        persistent_files._sources_digest.cache_clear()
        return persistent_files._sources_digest(tmp_path)

    yield digest
    persistent_files._sources_digest.cache_clear()


def test_nothing_is_kept_of_sources_that_cannot_be_read_or_were_edited_since_the_start(tmp_path, digest, monkeypatch):
    (tmp_path / "a.py").write_text("1")
    os.utime(tmp_path / "a.py", (0, 0))
    assert (before := digest()) != ""
    (tmp_path / ".#a.py").symlink_to("nowhere")  # an editor's lock
    assert digest() == before
    monkeypatch.setattr(persistent_files, "STARTED", -1.0)
    assert digest() == ""
    monkeypatch.setattr(persistent_files, "STARTED", 1.0)
    (tmp_path / "b.py").symlink_to("nowhere")
    assert digest() == ""


def test_sources_of_other_content_or_name_have_another_digest(tmp_path, digest, monkeypatch):
    monkeypatch.setattr(persistent_files, "STARTED", float("inf"))
    assert digest() == ""
    digests = set()
    for name, text in [("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("b.py", "")]:
        (tmp_path / name).write_text(text)
        digests.add(digest())
    assert len(digests) == 4


def test_programs_within_others_on_meshes_and_without_a_cache_are_jitted_as_ever(process, folder):
    program, traced = process()
    expected = program(*INPUTS)["y"]
    for path in folder.iterdir():
        path.unlink()
    within = jax.jit(lambda tree, x: program(tree, x))(*INPUTS)["y"]
    with jax.set_mesh(jax.sharding.Mesh(jax.devices()[:1], "data")):
        on_mesh = program(*INPUTS)["y"]
    jax.config.update("jax_compilation_cache_dir", None)
    without = program(*INPUTS)["y"]
    for found in (within, on_mesh, without):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert not list(folder.iterdir())
    assert len(traced) > 1


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:40] + b"\0" + data[41:]]
)
def test_a_damaged_file_is_told_of_and_made_again(process, folder, capsys, damage):
    expected = process()[0](*INPUTS)["y"]
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    (program, traced), (later, traced_later) = process(), process()
    np.testing.assert_array_equal(program(*INPUTS)["y"], expected)
    assert capsys.readouterr().err.count(f"{path} is damaged") == 1
    np.testing.assert_array_equal(later(*INPUTS)["y"], expected)
    assert (len(traced), len(traced_later)) == (1, 0)
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_told_of_and_the_program_runs(process, folder, capsys):
    folder.write_text("a file where the folder should be")
    assert process()[0](*INPUTS)["y"].shape == (7, 4)
    assert "are not kept" in capsys.readouterr().err


def test_a_static_argument_that_cannot_be_described_is_traced_as_ever(folder):
    @persistent_jit(("function",))
    def apply(x, *, function):
        return function(x)

    assert apply(2.0, function=lambda x: x * 3) == 6
    assert not folder.exists()


def test_the_folder_keeps_what_was_used_last(folder, monkeypatch):
    monkeypatch.setattr(persistent_files, "MAX_BYTES", 3 * (1000 + persistent_files.DIGEST_BYTES))
    paths = [persistent_path("x", str(number)) for number in range(4)]
    for age, path in enumerate(paths[:3]):
        write_persistent(path, bytes(1000))
        os.utime(path, (age + 1, age + 1))
    assert read_persistent(paths[0]) == bytes(1000)  # so that the second one was used longest ago
    write_persistent(paths[3], bytes(1000))
    assert [path.exists() for path in paths] == [True, False, True, True]


def test_descriptions_differ_wherever_values_do():
    values = [None, 0, 0.0, -0.0, 1, 1.0, True, "1", b"1", "a,b", ("a", "b"), ["a", "b"], ("a,b",), (("a",), "b"), ()]
    values += [{"a": 1}, {"a": "1"}, {"b": 1}, np.dtype("float32"), np.dtype("bfloat16"), jnp.float32, np.float32]
    values += [Cosine(), Cosine(s=0.0080000001), Cosine(steps=1), {"a": Cosine()}, 'x"', "x'"]
    described = [describe_static(value) for value in values]
    assert len(set(described)) == len(values)
    assert described == [describe_static(value) for value in values]


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A record whose sources nobody watches."""

    x: int = 0


@pytest.mark.parametrize("value", [len, lambda: 0, np.zeros(2), Foreign(), Foreign, object(), (1, {"a": [Foreign()]})])
def test_what_sources_elsewhere_decide_has_no_description(value):
    with pytest.raises(TypeError, match="is no number"):
        describe_static(value)
