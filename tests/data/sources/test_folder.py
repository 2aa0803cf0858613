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


@pytest.mark.parametrize("comma", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_of_lines_is_read_as_spreadsheets_write_it(tmp_path, comma, encoding):
    rows = [["text", "file_name", "n"], ['"two\r\nlines, and a ""quote"""', "a.jpg", "7"], ["", "b.jpg", ""]]
    lay(tmp_path, pictures={"a.jpg": picture(1), "b.jpg": picture(2)})
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_bytes("\r\n".join(comma.join(row) for row in rows).encode(encoding))
    source = open_folder_source(str(tmp_path))
    assert [(r.key, r.captions, r.labels) for r in map(source.__getitem__, range(2))] == [
        ("a.jpg", {"alt": 'two\r\nlines, and a "quote"'}, {"n": "7"}),
        ("b.jpg", {}, {}),
    ]
    assert source.sizes(0, 2).tolist() == [[16, 24], [16, 24]]


def test_a_table_without_paths_is_refused_and_bad_cells_spoil_their_row_alone(tmp_path):
    path = lay(tmp_path, pictures={"a.jpg": picture(1), "b.jpg": picture(2)}) / "metadata.csv"
    (tmp_path / "metadata.jsonl").unlink()
    path.write_bytes(b"image,text\na.jpg,x\n")
    with pytest.raises(ValueError, match=r"metadata\.csv has no column file_name, it begins 'image,text'"):
        len(open_folder_source(str(tmp_path)))
    path.write_bytes(b"file_name,text\na.jpg,caf\xe9\nb.jpg," + b"x" * 200_000 + b"\na.jpg,good\nb.jpg,one,cell,more\n")
    source, reasons = open_folder_source(str(tmp_path)), []
    for index in range(4):
        try:
            reasons.append(source[index].captions["alt"])
        except BadRecord as error:
            reasons.append(error.reason)
    assert reasons == ["encoding", "length", "good", "one"]


def test_names_are_found_as_other_systems_write_them(tmp_path):
    files = {"in/a.jpg": picture(1), "u\u0308ber.jpg": picture(2), "\u00e9.jpg": picture(3)}
    names = "in\\a.jpg", "\u00fcber.jpg", "e\u0301.jpg"
    source = FolderSource(lay(tmp_path, *({"file_name": name} for name in names), pictures=files))
    assert [source[index].image for index in range(3)] == list(files.values())
    assert source.sizes(0, 3).tolist() == [[16, 24]] * 3
    lines = {"file_name": "..\\in\\a.jpg"}, {"file_name": "C:\\a.jpg"}
    outside = FolderSource(lay(tmp_path / "data", *lines, pictures={"b.jpg": picture(1)}))
    for index in range(2):
        with pytest.raises(BadRecord, match="leads out of the folder"):
            outside[index]


def test_a_name_that_no_disk_takes_is_one_bad_record(tmp_path):
    names = "x" * 300 + ".jpg", "\ud800.jpg", "\udcff.jpg", "good.jpg"
    lay(tmp_path, *({"file_name": name} for name in names), pictures={"\udcff.jpg": picture(1), "good.jpg": picture(2)})
    source, reasons = FolderSource(tmp_path), []
    for index in range(4):
        try:
            reasons.append(source[index].key)
        except BadRecord as error:
            reasons.append(error.reason)
    assert reasons == ["missing", "encoding", "\\xff.jpg", "good.jpg"]


def test_lines_with_byte_order_marks_and_linked_files_are_read(tmp_path):
    marked = [b"\xef\xbb\xbf" + json.dumps({"file_name": f"{name}.jpg", "text": name}).encode() for name in "ab"]
    lay(tmp_path / "data", *marked, pictures={"a.jpg": picture(1)})
    (tmp_path / "store").write_bytes(picture(2))
    (tmp_path / "data" / "b.jpg").symlink_to(tmp_path / "store")
    source = FolderSource(tmp_path / "data")
    assert [(source[i].captions["alt"], source[i].image) for i in range(2)] == [("a", picture(1)), ("b", picture(2))]
    lines = (tmp_path / "data" / "metadata.jsonl").read_bytes().replace(b"\xef\xbb\xbf", b"").decode()
    (tmp_path / "data" / "metadata.jsonl").write_bytes(lines.encode("utf-16"))
    assert [FolderSource(tmp_path / "data")[i].captions["alt"] for i in range(2)] == ["a", "b"]
