"""A folder with metadata.jsonl: its lines are records, and nothing outside it is read."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.sources.folder import FolderSource
from scripts import make_bad_records


def picture(index: int, size: tuple[int, int] = (16, 24)) -> bytes:
    return make_bad_records.make_record(index, size, "", 0).picture or b""


def lay(folder: Path, *lines: dict | bytes, pictures: dict[str, bytes]) -> Path:
    for name, content in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    text = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / "metadata.jsonl").write_bytes(b"\n".join(text))
    return folder


@pytest.mark.parametrize("below", ["", "train"])
def test_lines_are_records(tmp_path, below):
    lines = {"file_name": "a.jpg", "text": "one", "licence": "CC0"}, b"", {"file_name": "in/b.jpg", "short": "two"}
    lay(tmp_path / below, *lines, pictures={"a.jpg": picture(1), "in/b.jpg": picture(2, (32, 16))})
    source = open_folder_source(str(tmp_path))
    assert isinstance(source, FolderSource)
    assert len(source) == 2
    first, second = source[0], source[1]
    assert (first.key, first.image, first.captions, first.labels) == (
        "a.jpg",
        picture(1),
        {"alt": "one"},
        {"licence": "CC0"},
    )
    assert (second.key, second.image, second.captions) == ("in/b.jpg", picture(2, (32, 16)), {"short": "two"})
    assert source.sizes(0, 2).tolist() == [[16, 24], [32, 16]] == [[r.height, r.width] for r in (first, second)]
    with pytest.raises(IndexError, match="record 2 of 2"):
        source[2]


def test_nothing_outside_the_folder_is_read(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(picture(1))
    names = ["../secret.jpg", str(tmp_path / "secret.jpg"), "in/../../secret.jpg", "http://host/a.jpg", "a\0.jpg", "in"]
    lay(tmp_path / "data", *({"file_name": name} for name in names), pictures={"in/b.jpg": picture(2)})
    source = FolderSource(tmp_path / "data")
    for index in range(len(names)):
        with pytest.raises(BadRecord) as found:
            source[index]
        assert found.value.reason == "missing"
        assert ("leads out" in found.value.detail) == (index < len(names) - 1)


@pytest.mark.parametrize("line", [b'{"text": "x"}', b'{"file_name": 7}', b'{"file_name": ""}', b"nothing"])
def test_a_line_that_names_no_picture_is_bad(tmp_path, line):
    source = FolderSource(lay(tmp_path, line, pictures={}))
    with pytest.raises(BadRecord, match=r"'line 1' \(json\)"):
        source[0]


def test_a_picture_that_changes_is_refused_and_one_that_goes_is_missing(tmp_path):
    source = FolderSource(lay(tmp_path, {"file_name": "a.jpg"}, {"file_name": "b.jpg"}, pictures={"a.jpg": picture(1)}))
    assert source[0].image == picture(1)
    with pytest.raises(BadRecord, match="missing"):
        source[1]
    (tmp_path / "a.jpg").write_bytes(picture(1) + b"more")
    with pytest.raises(ValueError, match=r"a\.jpg has changed since it was indexed: touch"):
        source[0]
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(BadRecord, match="missing"):
        source[0]


def test_a_changed_file_of_lines_is_indexed_again(tmp_path):
    lines = {"file_name": "a.jpg"}, {"file_name": "b.jpg"}
    lay(tmp_path, *lines, pictures={"a.jpg": picture(1)})
    before = FolderSource(tmp_path)
    assert before.sizes(0, 2).tolist() == [[16, 24], [1, 1]]
    (tmp_path / "b.jpg").write_bytes(picture(2))
    os.utime(tmp_path / "metadata.jsonl", ns=(7, 7))
    after = FolderSource(tmp_path)
    assert after.sizes(0, 2).tolist() == [[16, 24], [16, 24]]
    assert after[1].image == picture(2)
    assert before.fingerprint != after.fingerprint


def test_a_folder_in_a_bucket_has_the_same_records(tmp_path):
    lay(tmp_path, {"file_name": "in/a.jpg", "text": "one"}, pictures={"in/a.jpg": picture(1)})
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path), "/bucket", recursive=True)
    source, local = open_folder_source("memory://bucket"), open_folder_source(str(tmp_path))
    assert source[0] == local[0]
    assert source.fingerprint == local.fingerprint
    store.rm("/bucket", recursive=True)
