"""Files here and in buckets alike, Google's by the library that people use, where it is installed."""

import importlib.util
import os
import sys
from pathlib import Path

import fsspec
import pytest

from dalle3_jax.data import files
from dalle3_jax.data.sources import open_folder_source
from scripts import make_bad_records
from tests.data.google_storage import running


@pytest.mark.parametrize("root", ["local", "memory://shelf/files"])
def test_files_are_written_listed_and_read_alike(tmp_path, root):
    root = str(tmp_path) if root == "local" else root
    assert files.list_files(files.join_path(root, "none")) == []
    assert files.find_file(files.join_path(root, "none")) is None
    with pytest.raises(FileNotFoundError):
        files.read_bytes(files.join_path(root, "none"))
    for name in ("b", "a", "in/c"):
        files.write_whole(files.join_path(root, name), b"0123456789" * len(name))
    assert [(entry.name, entry.size) for entry in files.list_files(root)] == [("a", 10), ("b", 10)]
    found = files.find_file(files.join_path(root, "in/c"))
    assert found is not None
    assert (found.path, found.size) == (files.join_path(root, "in/c"), 40)
    assert files.find_file(files.join_path(root, "in")) is None
    assert files.read_bytes(found.path, 3, 7) == b"3456"
    assert files.read_bytes(found.path, 38, 99) == b"89"
    with files.open_file(found.path) as file:
        assert file.read() == b"0123456789" * 4
    if root != str(tmp_path):
        fsspec.filesystem("memory").rm("/shelf", recursive=True)


def test_a_path_of_this_machine_is_the_same_in_every_spelling(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for root in (
        "~/in",
        f"file://{tmp_path}/in",
        f"file://localhost{tmp_path}/in",
        f"local://{tmp_path}/in",
        f"file:{tmp_path}/in",
    ):
        path = files.join_path(root, "a")
        assert not files.is_remote(path)
        assert files.find_file(path) is None
        files.write_whole(path, b"one")
        assert (tmp_path / "in" / "a").read_bytes() == files.read_bytes(path) == files.open_file(path).read() == b"one"
        with files.atomic_file(path) as temporary:
            temporary.write_bytes(b"two")
        assert [(entry.path, files.read_bytes(entry.path)) for entry in files.list_files(root)] == [(path, b"two")]
        assert files.list_tree(root) == [files.find_file(path)] == files.list_files(root)
        assert files.local_copies(files.list_files(root)) == tmp_path / "in"
        (tmp_path / "in" / "a").unlink()
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]


def test_links_are_listed_as_what_they_lead_to(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a").write_bytes(b"12345")
    os.utime(tmp_path / "store" / "a", ns=(5, 5 * 10**9))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "data" / "in").symlink_to(tmp_path / "store")
    os.mkfifo(tmp_path / "data" / "pipe")
    (entry,) = files.list_files(tmp_path / "data")
    (true,) = files.list_files(tmp_path / "store")
    assert (entry.size, entry.version, entry.digest) == (5, true.version, true.digest)
    assert files.find_file(tmp_path / "data" / "a") == entry
    assert files.list_folders(tmp_path / "data") == [f"{tmp_path}/data/in"]
    assert [file.path for file in files.list_tree(tmp_path / "data")] == [f"{tmp_path}/data/a", f"{tmp_path}/data/in/a"]


def test_a_digest_changes_with_the_content(tmp_path):
    path, digests = tmp_path / "a", set()
    for time, content in ((1, b"one"), (2, b"one"), (2, b"longer")):
        path.write_bytes(content)
        os.utime(path, ns=(time, time * 10**9))
        digests.add(files.list_files(tmp_path)[0].digest)
    assert len(digests) == 3


def test_a_file_is_replaced_whole_or_left_as_it_was(tmp_path):
    path = tmp_path / "a"
    files.write_whole(path, b"before")
    os.link(path, tmp_path / "opened")  # what who has the file open goes on reading
    files.write_whole(path, b"after")
    assert (tmp_path / "opened").read_bytes() == b"before"
    (tmp_path / "opened").unlink()

    def fail():
        with files.atomic_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"after"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_copies_of_remote_files_are_made_once_and_again_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    root, asked = "memory://shelf/copies", []
    store = fsspec.filesystem("memory")
    get = type(store).get_file
    monkeypatch.setattr(type(store), "get_file", lambda self, a, b: asked.append(a) or get(self, a, b))
    for content in (b"one", b"three"):
        files.write_whole(files.join_path(root, "a"), content)
        for _ in range(2):
            assert (files.local_copies(files.list_files(root)) / "a").read_bytes() == content
    assert len(asked) == 2
    assert files.local_copies([files.FileEntry(f"{tmp_path}/x", 1, "1")]) == tmp_path
    store.rm("/shelf", recursive=True)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ValueError, match=r"'gs://bucket/data' needs .*pip install 'dalle3_jax\[gcs\]'"):
        open_folder_source("gs://bucket/data")


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is None, reason="gcsfs is not installed")
@pytest.mark.filterwarnings("ignore")
def test_tars_in_google_storage_are_read_a_record_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    make_bad_records.write_dataset(tmp_path, 200, 0.0, sizes=((64, 64),))
    content, asked = (tmp_path / "00000.tar").read_bytes(), []
    objects = {"bucket/tars/00000.tar": content}
    with running(objects, asked) as url:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        source, local = open_folder_source("gs://bucket/tars"), open_folder_source(str(tmp_path))
        assert source.fingerprint == local.fingerprint
        asked.clear()
        assert source[150].image == local[150].image
        assert len(asked) == 1
        assert len([name for name in objects if ".dalle3_jax/" in name]) == 1
