"""Folders of pictures as people have them: captions beside, folders within, links anywhere."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.sources.pictures import PictureSource
from dalle3_jax.data.transforms import decode_image
from scripts import make_bad_records

SIZES = {"a": (16, 24), "b": (24, 16), "c": (16, 16)}


def picture(name: str = "a") -> bytes:
    return make_bad_records.make_record(ord(name[0]), SIZES.get(name[0], (16, 16)), "", 0).picture or b""


def lay(folder: Path, **content: bytes | str) -> Path:
    """Files by name, `__` for a dot, `___` for a slash."""
    for name, text in content.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_captions_stand_beside_pictures(tmp_path):
    said = json.dumps({"caption": "from JSON", "short": "s", "url": "u"})
    lay(
        tmp_path,
        a__jpg=picture("a"),
        a__txt="1girl, solo\n",
        b__JPG=picture("b"),
        b__caption="a cat",
        c__jpeg=picture("c"),
    )
    lay(
        tmp_path, c__json=said, d__png=picture(), d__png__txt="two endings", e__jpg=picture(), notes__txt="no picture's"
    )
    source = open_folder_source(str(tmp_path))
    assert isinstance(source, PictureSource)
    records = [source[index] for index in range(len(source))]
    assert [(record.key, record.captions.get("alt")) for record in records] == [
        ("a.jpg", "1girl, solo"),
        ("b.JPG", "a cat"),
        ("c.jpeg", "from JSON"),
        ("d.png", "two endings"),
        ("e.jpg", None),
    ]
    assert [record.image for record in records[:3]] == [picture("a"), picture("b"), picture("c")]
    assert source.sizes(0, 3).tolist() == list(map(list, SIZES.values())) == [[r.height, r.width] for r in records[:3]]
    assert (records[2].captions["short"], records[2].labels) == ("s", {"url": "u"})
    with pytest.raises(IndexError, match="record 5 of 5"):
        source[5]


def test_folders_within_are_labels_and_a_split_is_taken_alone(tmp_path):
    lay(tmp_path, cats___a__jpg=picture("a"), dogs___big___b__jpg=picture("b"), c__jpg=picture("c"))
    source = open_folder_source(str(tmp_path))
    assert [(source[i].key, source[i].labels) for i in range(3)] == [
        ("c.jpg", {}),
        ("cats/a.jpg", {"folder": "cats"}),
        ("dogs/big/b.jpg", {"folder": "dogs/big"}),
    ]
    lay(tmp_path, train___a__jpg=picture("a"), test___b__jpg=picture("b"))
    assert [open_folder_source(str(tmp_path), split)[0].key for split in ("train", "test")] == ["a.jpg", "b.jpg"]


def test_links_are_followed_and_circles_are_not(tmp_path):
    lay(tmp_path / "store", a__jpg=picture("a"), a__txt="x", in___b__jpg=picture("b"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "linked").symlink_to(tmp_path / "store")
    (data / "a.jpg").symlink_to(tmp_path / "store" / "a.jpg")
    (data / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "store" / "up").symlink_to(data)
    (data / "self").symlink_to("self")
    source = open_folder_source(str(data))
    assert [picture.name for picture in source.pictures] == ["a.jpg", "gone.jpg", "linked/a.jpg", "linked/in/b.jpg"]
    assert (source[0].image, source[2].captions) == (picture("a"), {"alt": "x"})
    with pytest.raises(BadRecord, match=r"'gone.jpg' \(missing\)"):
        source[1]


def test_strays_are_no_pictures_and_what_is_bad_spoils_its_own_record_alone(tmp_path):
    lay(tmp_path, ____a__jpg=b"", __nfs1__jpg=b"", Thumbs__db=b"x", __hidden___a__jpg=picture(), __MACOSX___a__jpg=b"")
    os.rename(tmp_path / ".MACOSX", tmp_path / "__MACOSX")
    lay(
        tmp_path,
        a__jpg=picture("a"),
        a__txt=b"\xff\xfe\x00",
        b__jpg=picture("b"),
        b__json="{",
        c__jpg=b"",
        d__gif=b"GIF89a",
    )
    lay(tmp_path, e__jpg=picture("c"), e__txt="x" * 100_001)
    source, reasons = open_folder_source(str(tmp_path)), []
    for index in range(5):
        try:
            reasons.append(source[index].key)
        except BadRecord as error:
            reasons.append((error.key, error.reason))
    expected = [("a.jpg", "encoding"), ("b.jpg", "json"), ("c.jpg", "empty"), "d.gif", ("e.jpg", "length")]
    assert reasons == expected
    assert len(source) == 5


def test_fingerprints_follow_content_and_not_place_and_changes_are_noticed(tmp_path):
    folders = [lay(tmp_path / name, a__jpg=picture("a"), a__txt="x") for name in ("one", "two")]
    first, second = (PictureSource(folder) for folder in folders)
    assert first.fingerprint == second.fingerprint
    (folders[1] / "a.txt").write_text("longer")
    assert PictureSource(folders[1]).fingerprint != first.fingerprint
    (folders[0] / "a.jpg").write_bytes(picture("a") + b"more")
    with pytest.raises(ValueError, match=r"one/a\.jpg has changed since it was indexed: start again"):
        first[0]
    assert PictureSource(folders[0]).fingerprint != second.fingerprint


def test_a_folder_of_pictures_in_a_bucket_has_the_same_records(tmp_path):
    lay(tmp_path, a__jpg=picture("a"), in___b__jpg=picture("b"), in___b__txt="x")
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path), "/pictures", recursive=True)
    source, local = open_folder_source("memory://pictures"), open_folder_source(str(tmp_path))
    assert [source[i] for i in range(2)] == [local[i] for i in range(2)]
    assert source.fingerprint == local.fingerprint
    store.rm("/pictures", recursive=True)


@pytest.mark.parametrize(
    "name", ["cats/metadata.jsonl", "METADATA.CSV", "metadata.parquet", "train/metadata.csv", "metadata.json"]
)
def test_lists_that_would_not_be_read_are_named(tmp_path, name):
    lay(tmp_path, a__png=picture(), cats___b__png=picture(), train___c__png=picture())
    (tmp_path / name).write_text('{"file_name": "b.png", "text": "t"}\n')
    with pytest.raises(ValueError, match=rf"{name} says of its pictures would not be read"):
        open_folder_source(str(tmp_path), "val")
    (tmp_path / name).unlink()
    assert len(open_folder_source(str(tmp_path), "val")) == 3


def test_what_stands_in_place_of_a_picture_is_named(tmp_path):
    lay(tmp_path, a__png=b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b__png="<html>gone</html>")
    source = open_folder_source(str(tmp_path))
    for index, what in enumerate(("a pointer of Git LFS: run git lfs pull", "a web page")):
        with pytest.raises(BadRecord, match=what):
            decode_image(source[index].image)
