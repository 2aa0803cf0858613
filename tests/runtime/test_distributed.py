"""What a process sets up: the lock of a folder and the cache of programs, neither of which may stop the work."""

import errno
import fcntl

import jax
import pytest

from dalle3_jax.runtime.distributed import enable_compilation_cache, lock_folder


def test_a_folder_that_another_holds_is_refused(tmp_path):
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process is training"), lock_folder(tmp_path):
            pass
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EIO])
def test_file_systems_without_locks_are_trained_on_and_it_is_said(tmp_path, monkeypatch, capsys, code):
    def refuse(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_folder(tmp_path):
        said = capsys.readouterr().err
    assert said.startswith("note: ")
    assert "another process" not in said
    assert "no locks" in said


def test_a_cache_of_programs_that_cannot_be_written_is_said_once_and_not_used(monkeypatch, capsys):
    before = jax.config.values["jax_compilation_cache_dir"]
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        enable_compilation_cache()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "JAX_COMPILATION_CACHE_DIR" in capsys.readouterr().err
