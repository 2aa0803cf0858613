"""The one atomic write: files are whole or as they were, and nothing is left beside them."""

import os

import pytest

from dalle3_jax.files import atomic_file, write_whole


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
