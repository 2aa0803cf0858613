"""The one atomic write: files are whole or as they were, and nothing is left beside them."""

import errno
import os
import pwd
import shutil
from pathlib import Path

import pytest

from dalle3_jax.files import atomic_file, atomic_folder, user_cache_folder, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_the_old_one_at_once(tmp_path):
    path = tmp_path / "a"
    write_whole(path, b"before")
    os.link(path, tmp_path / "opened")
    write_whole(path, b"after")
    assert ((tmp_path / "opened").read_bytes(), path.read_bytes()) == (b"before", b"after")
    assert names(tmp_path) == ["a", "opened"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing_and_leaves_nothing(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    write_whole(path, b"before")

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["a"]


def test_a_block_that_is_interrupted_leaves_nothing(tmp_path):
    def interrupt():
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert names(tmp_path) == []


def test_the_content_and_then_the_name_reach_the_disk(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor):
        order.append("folder" if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path)) else "file")
        fsync(descriptor)

    def note_replace(*paths):
        order.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_whole(tmp_path / "a", b"content")
    assert order == ["file", "rename", "folder"]


def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_folders_are_made_where_that_is_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "in" / "a", b"content")
    write_whole(tmp_path / "in" / "a", b"content", parents=True)
    assert names(tmp_path / "in") == ["a"]


def test_the_longest_name_can_be_written(tmp_path):
    path = tmp_path / ("ä" * 127)
    write_whole(path, b"content")
    assert path.read_bytes() == b"content"


def write_folder(path, content="new"):
    with atomic_folder(path) as temporary:
        (temporary / "a").write_text(content)


def test_mounts_that_refuse_chmod_take_files_and_folders(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for owner, name in ((os, "chmod"), (os, "fchmod"), (Path, "chmod"), (shutil, "copymode"), (shutil, "copystat")):
        monkeypatch.setattr(owner, name, refuse)
    write_whole(tmp_path / "in" / "file", b"content", parents=True)
    write_folder(tmp_path / "folder")
    assert names(tmp_path / "in") + names(tmp_path / "folder") == ["file", "a"]


def test_a_folder_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        write_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_file_systems_that_do_not_sync_are_written_all_the_same(tmp_path, monkeypatch, code):
    def refuse(_):
        raise OSError(code, "not here")

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "a", b"content")
    write_folder(tmp_path / "folder")
    assert names(tmp_path) == ["a", "folder"]


def test_a_folder_that_replaces_another_does_not_wait_for_what_cannot_be_removed(tmp_path, monkeypatch):
    write_folder(tmp_path / "folder", "first")
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as where NFS keeps a file that is read
    for content in ("second", "third"):
        write_folder(tmp_path / "folder", content)
        assert (tmp_path / "folder" / "a").read_text() == content


def test_the_cache_folder_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert user_cache_folder("x") == tmp_path / "cache" / "dalle3_jax" / "x"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_cache_folder("x") == tmp_path / "home" / ".cache" / "dalle3_jax" / "x"
    assert (tmp_path / "home" / ".cache" / "dalle3_jax" / "x").is_dir()


def test_there_is_no_cache_folder_without_a_home_or_where_it_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", Path("/dev/null"), Path("/proc/1/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(home))
        assert user_cache_folder("x") is None
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert user_cache_folder("x") is None
