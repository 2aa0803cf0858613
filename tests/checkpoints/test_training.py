"""Checkpoints of the training state: exact, verified, never lost silently."""

import errno
import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints import training
from dalle3_jax.checkpoints.training import Checkpointer, finished_steps, verify_step
from tests.training import toy
from tests.training.test_sharding import run_on


@pytest.fixture(scope="module")
def step_and_state():
    return toy.compiled()


@pytest.fixture
def state(step_and_state):
    return jax.tree.map(jnp.copy, step_and_state[1])


def host(state):
    return jax.tree.map(lambda x: np.array(x), jax.device_get(state.replace(key=jax.random.key_data(state.key))))


def abstract(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def saved(folder, state, *at: int) -> Checkpointer:
    """A checkpointer with the same state at some steps."""
    checkpointer = Checkpointer(folder, keep=9)
    for step in at:
        checkpointer.save(step, state.replace(step=jnp.int32(step)), {"next": step})
    checkpointer.wait()
    return checkpointer


def flip_a_bit(folder):
    """Damage the largest file of a step."""
    path = max((p for p in (folder / "state").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_restored_state_is_the_saved_one_bit_for_bit(tmp_path, state):
    expected = host(state)
    saved(tmp_path, state, 5).close()
    restored = Checkpointer(tmp_path).restore(abstract(state))
    assert (restored.step, restored.data) == (5, {"next": 5})
    assert_same(host(restored.state), expected.replace(step=np.int32(5)))
    assert jax.tree.map(lambda x: x.sharding, restored.state) == jax.tree.map(lambda x: x.sharding, state)


def test_steps_taken_while_it_is_written_do_not_reach_it(tmp_path, step_and_state, state):
    step, _ = step_and_state
    checkpointer, expected = Checkpointer(tmp_path, keep=30), []
    layout = abstract(state)
    for n in range(1, 16):
        state, _ = step(state, toy.FROZEN, toy.batch(n))
        expected.append(host(state))
        checkpointer.save(n, state, {})
    checkpointer.wait()
    for n in reversed(range(1, 16)):
        assert_same(host(checkpointer.restore(layout).state), expected[n - 1])
        shutil.rmtree(tmp_path / f"{n:08d}")


def test_only_the_newest_are_kept(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, keep=2)
    for step in (1, 2, 3, 10):
        checkpointer.save(step, state, {})
    checkpointer.close()
    assert finished_steps(tmp_path) == [3, 10]


def test_damaged_step_falls_back_to_the_one_before_and_says_so(tmp_path, state, capsys):
    checkpointer = saved(tmp_path, state, 1, 2)
    flip_a_bit(tmp_path / "00000002")
    assert checkpointer.restore(abstract(state)).step == 1
    assert "step 2" in capsys.readouterr().err
    assert finished_steps(tmp_path) == [1, 2], "nothing is deleted"


def test_unfinished_step_does_not_count(tmp_path, state):
    checkpointer = saved(tmp_path, state, 1, 2)
    (tmp_path / "00000002" / "manifest.json").unlink()
    assert checkpointer.restore(abstract(state)).step == 1
    checkpointer.save(2, state, {"next": 7})
    checkpointer.wait()
    assert checkpointer.restore(abstract(state)).data == {"next": 7}


def test_damaged_step_is_put_aside_when_it_is_saved_again(tmp_path, state):
    checkpointer = saved(tmp_path, state, 1)
    flip_a_bit(tmp_path / "00000001")
    checkpointer.save(1, state, {})
    checkpointer.wait()
    assert verify_step(tmp_path / "00000001") == []
    assert len(list(tmp_path.glob("00000001.damaged-*"))) == 1


def test_no_good_step_is_an_error_never_a_fresh_start(tmp_path, state):
    checkpointer = saved(tmp_path, state, 1)
    flip_a_bit(tmp_path / "00000001")
    with pytest.raises(ValueError, match=r"no checkpoint .* good .*damaged"):
        checkpointer.restore(abstract(state))
    (tmp_path / "00000001" / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpointer.restore(abstract(state))


def test_missing_and_extra_files_are_noticed(tmp_path, state):
    saved(tmp_path, state, 1)
    (tmp_path / "00000001" / "extra").write_text("")
    (tmp_path / "00000001" / "data.json").unlink()
    assert verify_step(tmp_path / "00000001") == ["data.json is missing", "extra does not belong there"]


def test_what_systems_leave_beside_files_condemns_no_step(tmp_path, state):
    strays = "state/._array", "desktop.ini", "state/.nfs00ab"
    saved(tmp_path, state, 1)
    for name in strays:
        (tmp_path / "00000001" / name).write_bytes(b"x")
    assert verify_step(tmp_path / "00000001") == []
    path = tmp_path / "00000001" / "manifest.json"
    manifest = json.loads(path.read_text())
    files = {**manifest["files"], "state/.nfs00cd": "0"}  # open when it was written, and gone since
    path.write_text(json.dumps(training._seal_manifest({"files": files, "arrays": manifest["arrays"]})))
    assert verify_step(tmp_path / "00000001") == []


def test_before_the_first_save_there_is_nothing(tmp_path, state):
    assert Checkpointer(tmp_path / "none").restore(abstract(state)) is None


@pytest.mark.parametrize("change", [{"shape": (3, 4)}, {"dtype": jnp.bfloat16}])
def test_checkpoint_of_another_model_is_named(tmp_path, state, change):
    checkpointer = saved(tmp_path, state, 1)
    wanted = abstract(state)
    kernel = wanted.params["net"]["kernel"]
    fields = {"shape": kernel.shape, "dtype": kernel.dtype, "sharding": kernel.sharding} | change
    other = {"net": {**wanted.params["net"], "kernel": jax.ShapeDtypeStruct(**fields)}}
    with pytest.raises(ValueError, match=r"another model: 1 arrays differ.*kernel"):
        checkpointer.restore(wanted.replace(params=other))


def test_manifest_lists_every_file_with_its_digest(tmp_path, state):
    saved(tmp_path, state, 1)
    folder = tmp_path / "00000001"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"manifest.json"}
    assert set(listed) == found


MESHES = """
import hashlib, sys, jax, numpy as np
from dalle3_jax.checkpoints.training import Checkpointer
from dalle3_jax.training import sharding
from dalle3_jax.training.state import state_shardings, with_shardings
from tests.training import toy

adamw = toy.adamw()
for sizes in [tuple(map(int, mesh.split(","))) for mesh in sys.argv[2:]]:
    devices = jax.devices()[:int(np.prod(sizes))]
    mesh = sharding.make_mesh(dict(zip(("data", "fsdp", "tensor"), sizes)), devices)
    abstract, layout = state_shardings(toy.boxed(), adamw, mesh, jax.random.key(0))
    checkpointer = Checkpointer(sys.argv[1])
    restored = checkpointer.restore(with_shardings(abstract, layout))
    if sizes == (1, 4, 1):
        assert restored is None
        state = jax.jit(lambda: toy.new_state(adamw), out_shardings=layout)()
        checkpointer.save(3, state, {"batches": 3})
        checkpointer.wait()
    else:
        state = restored.state
        assert (restored.step, restored.data) == (3, {"batches": 3})
        assert [x.sharding for x in jax.tree.leaves(state)] == jax.tree.leaves(layout)
    checkpointer.close()
    state = state.replace(key=jax.random.key_data(state.key))
    numbers = [np.asarray(x) for x in jax.tree.leaves(state)]
    print("digest", hashlib.sha256(b"".join(x.tobytes() for x in numbers)).hexdigest())
"""


def test_a_step_restores_onto_other_meshes_bit_for_bit(tmp_path):
    printed = run_on(4, MESHES, str(tmp_path), "1,4,1", "2,1,1", "1,2,2") + run_on(1, MESHES, str(tmp_path), "1,1,1")
    digests = [line for line in printed.splitlines() if line.startswith("digest ")]
    assert len(digests) == 4
    assert len({*digests}) == 1


def test_what_no_save_finished_goes_at_the_next_and_what_is_finished_stays(tmp_path, state):
    checkpointer = saved(tmp_path, state, 1, 2)
    (tmp_path / "00000003" / "state").mkdir(parents=True)
    (tmp_path / "00000002.damaged-7").mkdir()
    checkpointer.save(4, state, {})
    checkpointer.wait()
    names = ["00000001", "00000002", "00000002.damaged-7", "00000004"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("when", ["before", "while it is written", "manifest"])
def test_a_full_disk_is_said_by_the_next_save_and_leaves_the_last_one_good(tmp_path, state, monkeypatch, when):
    checkpointer = saved(tmp_path, state, 1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if when == "before":
            patch.setattr("pathlib.Path.write_text", full)
            with pytest.raises(OSError, match="No space left"):
                checkpointer.save(2, state, {})
        else:
            if when == "manifest":
                patch.setattr("dalle3_jax.checkpoints.training._file_digests", full)
            else:
                writer = SimpleNamespace(save=checkpointer._orbax.save, wait_until_finished=full)
                patch.setattr(checkpointer, "_orbax", writer)
            checkpointer.save(2, state, {})
            with pytest.raises(OSError, match=r"saving a checkpoint in .* failed: .*No space left"):
                checkpointer.save(3, state, {})
    checkpointer._orbax.wait_until_finished()  # what the patched one left under way
    assert finished_steps(tmp_path) == [1]
    assert verify_step(tmp_path / "00000001") == []
    checkpointer.save(5, state, {"batches": 5})
    checkpointer.close()
    assert finished_steps(tmp_path) == [1, 5]


def test_every_bit_of_the_manifest_counts(tmp_path, state):
    saved(tmp_path, state, 1).close()
    path = tmp_path / "00000001" / "manifest.json"
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 400, 1)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert verify_step(path.parent), (place, whole[place - 20 : place + 20])
    path.write_bytes(whole)
    assert verify_step(path.parent) == []


def test_an_old_step_that_cannot_be_removed_stops_nothing_and_goes_later(tmp_path, state, monkeypatch, capsys):
    checkpointer, remove = Checkpointer(tmp_path, keep=1), shutil.rmtree

    def refuse(path, *args, **kwargs):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))

    checkpointer.save(1, state, {})
    checkpointer.wait()
    monkeypatch.setattr(shutil, "rmtree", refuse)
    for step in (2, 3):
        checkpointer.save(step, state, {})
        checkpointer.wait()
        assert finished_steps(tmp_path) == [step], "what is left of an old one does not count"
    assert "cannot be removed yet" in capsys.readouterr().err
    (tmp_path / "00000003" / "manifest.json").unlink()  # as where a run was killed before it was written
    checkpointer.save(3, state, {})
    checkpointer.wait()
    assert finished_steps(tmp_path) == [3], "a new step has room though the unfinished one stays"
    monkeypatch.setattr(shutil, "rmtree", remove)
    checkpointer.save(4, state, {})
    checkpointer.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["00000004"]


@pytest.mark.parametrize("name", [".nfs0000000000a1", "._manifest.json", ".DS_Store", "Thumbs.db", "desktop.ini"])
def test_what_file_managers_and_nfs_leave_does_not_condemn_a_step(tmp_path, state, name):
    saved(tmp_path, state, 1).close()
    for folder in (tmp_path / "00000001", tmp_path / "00000001" / "state"):
        (folder / name).write_bytes(b"stray")
    assert verify_step(tmp_path / "00000001") == []
    (tmp_path / "00000001" / "nfs").write_bytes(b"stray")
    assert verify_step(tmp_path / "00000001") == ["nfs does not belong there"]
