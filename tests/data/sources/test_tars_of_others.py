"""Tars that other tools and other systems wrote: nothing in them is dropped, and what cannot be read is named."""

import bz2
import io
import json
import tarfile
from pathlib import Path

import pytest

from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.sources.tars import TarSource
from dalle3_jax.data.transforms import decode_image
from scripts import make_bad_records


def picture(seed: int = 0, size: tuple[int, int] = (16, 24)) -> bytes:
    return make_bad_records.make_record(seed, size, "", 0).picture or b""


def write_tar(path: Path, *members: tuple[str, bytes | str], **options) -> Path:
    """A tar of (name, bytes), or of (name, the name that it links to)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = (
                    (tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE),
                    content,
                )
                member.linkname = content.removeprefix("->")
                file.addfile(member)
            else:
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path.parent


def read_all(folder: Path) -> list[tuple[str, bytes, str | None] | str]:
    """Key, picture and caption of every record, or what is wrong with it."""
    source, rows = open_folder_source(str(folder)), []
    for index in range(len(source)):
        try:
            record = source[index]
            decode_image(record.image, record.key)
            rows.append((record.key, record.image, record.captions.get("alt")))
        except BadRecord as error:
            rows.append(str(error))
    return rows


def test_a_key_that_comes_again_is_another_record(tmp_path):
    one, two, three = (picture(seed) for seed in range(3))
    write_tar(tmp_path / "0.tar", ("k.jpg", one), ("k.json", b'{"caption": "1"}'), ("k.jpg", two), ("k.txt", b"2"))
    write_tar(tmp_path / "1.tar", ("k.jpg", one), ("l.jpg", three), ("k.jpg", two), ("k.txt", b"2"))
    assert read_all(tmp_path) == [
        ("k", one, "1"),
        ("k", two, "2"),
        ("k", one, None),
        ("l", three, None),
        ("k", two, "2"),
    ]


def test_parts_that_stand_apart_are_joined_and_what_lies_between_is_not_read(tmp_path, monkeypatch):
    far = [(f"{name}.jpg", picture(seed) + bytes(1_200_000)) for seed, name in enumerate("abc")]
    write_tar(tmp_path / "0.tar", *far, *((f"{name}.txt", name.encode()) for name in "abc"), ("a.json", b'{"n": 1}'))
    source = TarSource(tmp_path)
    assert len(source) == 3
    asked, read = [], files.read_bytes
    monkeypatch.setattr(files, "read_bytes", lambda path, *ends: asked.append(ends) or read(path, *ends))
    assert [(source[i].key, source[i].captions["alt"]) for i in range(3)] == [(name, name) for name in "abc"]
    assert source[0].labels == {"n": 1}
    assert max(end - start for start, end in asked) < 1_300_000


@pytest.mark.parametrize("kept", [slice(0, 2), slice(2, 4)])
def test_dots_belong_to_names_where_no_other_reading_is_left(tmp_path, kept):
    members = [
        ("IMG.2024.JPG", picture(1)),
        ("IMG.2024.txt", b"x"),
        ("IMG.2025.JPG", picture(2)),
        ("IMG.2025.txt", b"y"),
    ]
    expected = [("IMG.2024", picture(1), "x"), ("IMG.2025", picture(2), "y")]
    write_tar(tmp_path / "all" / "0.tar", *members)
    write_tar(tmp_path / "one" / "0.tar", *members[kept])
    assert read_all(tmp_path / "all") == expected
    assert read_all(tmp_path / "one") == [expected[kept.start // 2]]


def test_a_picture_of_two_endings_is_that_of_its_key_where_it_is_the_only_one(tmp_path):
    write_tar(tmp_path / "one" / "0.tar", ("d/a.input.jpg", picture(1)), ("d/a.txt", b"x"))
    write_tar(tmp_path / "two" / "0.tar", ("a.input.jpg", picture(1)), ("a.mask.png", picture(2)), ("a.txt", b"x"))
    assert read_all(tmp_path / "one") == [("d/a", picture(1), "x")]
    assert read_all(tmp_path / "two") == [
        "bad record 'a' (missing): several pictures have this key, and none of them is KEY.jpg itself"
    ]


def test_links_in_a_tar_are_followed(tmp_path):
    members = ("d/a.jpg", picture(1)), ("d/a.txt", b"x"), ("d/b.jpg", "d/a.jpg"), ("d/b.txt", b"y")
    write_tar(
        tmp_path / "0.tar", *members, ("e/c.jpg", "->../d/a.jpg"), ("e/c.txt", "->../d/a.txt"), ("f.jpg", "->gone")
    )
    assert read_all(tmp_path) == [("d/a", picture(1), "x"), ("d/b", picture(1), "y"), ("e/c", picture(1), "x")]


def test_names_of_other_systems_are_read(tmp_path):
    windows = ("v1.0\\a.jpg", picture(1)), ("v1.0\\a.txt", b"x"), ("v1.0\\b.jpg", picture(2))
    write_tar(tmp_path / "0.tar", *windows)
    old = {"format": tarfile.GNU_FORMAT, "encoding": "cp1251"}
    write_tar(tmp_path / "1.tar", ("\u043a\u043e\u0442.jpg", picture(3)), ("\u043a\u043e\u0442.txt", b"z"), **old)
    keys = ["v1.0/a", "v1.0/b", "\\xea\\xee\\xf2"]
    assert [row[0] for row in read_all(tmp_path)] == keys
    assert json.loads(json.dumps(keys[-1].encode().decode())) == keys[-1]


def test_a_tar_whose_own_name_is_not_unicode_is_read(tmp_path):
    write_tar(tmp_path / "0.tar", ("a.jpg", picture(1)))
    (tmp_path / "0.tar").rename(tmp_path / "\udcff.tar")
    source = TarSource(tmp_path)
    assert (source[0].key, source.fingerprint[:5]) == ("a", "tars/")


def test_what_systems_leave_in_tars_and_beside_them_is_no_record(tmp_path):
    strays = (
        (".DS_Store", b"x"),
        ("in/._a.jpg", b"x"),
        ("in/Thumbs.db", b"x"),
        ("__MACOSX/._a.jpg", b"x"),
        ("desktop.ini", b""),
    )
    write_tar(tmp_path / "0.tar", *strays, ("in/a.jpg", picture(1)), ("in/a.txt", b"x"))
    for name in ("._0.tar", ".nfs0001.tar", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    assert read_all(tmp_path) == [("in/a", picture(1), "x")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bz2.compress(bytes(2048)), r"7\.tar is compressed \(bzip2\): unpack it"),
        (b"PK\x03\x04" + bytes(600), r"7\.tar is compressed \(zip\): unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid", r"7\.tar is a pointer of Git LFS: run git lfs pull"),
        (b"7z\xbc\xaf" + bytes(600), r"7\.tar is compressed \(7-Zip\)"),
        (b"\x04\x22\x4d\x18" + bytes(600), r"7\.tar is compressed \(lz4\)"),
        (b"\n<!DOCTYPE html><html>", r"7\.tar is a web page: fetch it again"),
        (b"", r"7\.tar is damaged or cut short"),
    ],
)
def test_what_is_no_tar_is_named_for_what_it_is(tmp_path, content, message):
    (tmp_path / "7.tar").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        len(TarSource(tmp_path))


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "0.tar").symlink_to("gone")
    with pytest.raises(ValueError, match=r"0\.tar cannot be read \(No such file"):
        len(TarSource(tmp_path))


def test_tars_one_folder_further_down_are_read_linked_ones_too(tmp_path):
    for number, place in enumerate(("data/a/0.tar", "data/b/0.tar", "elsewhere/0.tar")):
        write_tar(tmp_path / place, ("k.jpg", picture(number)))
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    assert [row[1] for row in read_all(tmp_path / "data")] == [picture(0), picture(1), picture(2)]
    once = TarSource(tmp_path / "data").fingerprint
    (tmp_path / "data" / "b").rename(tmp_path / "data" / "d")
    assert TarSource(tmp_path / "data").fingerprint != once
    write_tar(tmp_path / "data/train/0.tar", ("t.jpg", picture(7)))
    assert [row[0] for row in read_all(tmp_path / "data")] == ["t"]


def test_texts_as_windows_writes_them_are_read(tmp_path):
    members = ("a.jpg", picture()), ("a.txt", "\ufeffein K\u00e4fer\r\n".encode("utf-16-le"))
    more = ("b.jpg", picture()), ("b.json", '\ufeff{"caption": "k\u00e4fer"}'.encode("utf-16-be"))
    write_tar(tmp_path / "0.tar", *members, *more, ("c.jpg", picture()), ("c.txt", b"\xef\xbb\xbf tree\n"))
    assert [row[2] for row in read_all(tmp_path)] == ["ein K\u00e4fer", "k\u00e4fer", "tree"]


def test_captions_that_say_nothing_do_not_spoil_those_that_do(tmp_path):
    said = b'{"short": " ", "captions": {"descriptive": "long"}, "caption": "from JSON"}'
    write_tar(
        tmp_path / "0.tar",
        ("a.jpg", picture()),
        ("a.txt", b" \n"),
        ("a.json", said),
        ("b.jpg", picture()),
        ("b.txt", b""),
    )
    source = TarSource(tmp_path)
    assert source[0].captions == {"alt": "from JSON", "descriptive": "long"}
    with pytest.raises(BadRecord, match=r"'b' \(caption\): the caption 'alt' is empty"):
        source[1]


def test_what_systems_put_into_folders_is_no_record(tmp_path):
    image = picture()
    strays = "__MACOSX/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "x/$RECYCLE.BIN/b.jpg", "._a.jpg"
    write_tar(
        tmp_path / "0.tar", *((name, b"no image") for name in strays), (".own/a.jpg", image), (".own/a.txt", b"t")
    )
    assert read_all(tmp_path) == [(".own/a", image, "t")]


def test_a_tar_may_begin_with_a_name_that_begins_as_archives_do(tmp_path):
    write_tar(tmp_path / "0.tar", ("PK1.jpg", picture()))
    assert read_all(tmp_path) == [("PK1", picture(), None)]


def test_a_caption_may_be_named_after_the_whole_file(tmp_path):
    one, two = picture(1), picture(2)
    write_tar(tmp_path / "0.tar", ("a.jpg.txt", b"of a"), ("a.jpg", one), ("b.jpg", two), ("b.txt", b"of b"))
    write_tar(tmp_path / "1.tar", ("b.txt", b"own"), ("b.jpg.txt", b"other"), ("b.jpg", two))
    assert read_all(tmp_path) == [("a", one, "of a"), ("b", two, "of b"), ("b", two, "own")]


def test_tars_lie_at_any_depth_and_those_left_out_are_named(tmp_path, capsys):
    for place in ("a-b/0.tar", "a/0.tar", "c/d/1.tar"):
        write_tar(tmp_path / "deep" / place, (f"{place[0]}{place[2]}.jpg", picture()))
    assert [key for key, _, _ in read_all(tmp_path / "deep")] == ["a0", "ab", "cd"]
    write_tar(tmp_path / "both" / "0.tar", ("k.jpg", picture()))
    write_tar(tmp_path / "both" / "more" / "1.tar", ("l.jpg", picture()))
    capsys.readouterr()
    assert [key for key, _, _ in read_all(tmp_path / "both")] == ["k"]
    assert "not those in " + str(tmp_path / "both" / "more") in capsys.readouterr().err


def test_a_few_folders_beside_tars_are_looked_into_and_once_in_a_process(tmp_path, monkeypatch, capsys):
    write_tar(tmp_path / "0.tar", ("k.jpg", picture()))
    for number in range(9):
        write_tar(tmp_path / f"more{number}" / "1.tar", ("l.jpg", picture()))
    listed, list_folder = [], files.list_folder
    monkeypatch.setattr(files, "list_folder", lambda folder: listed.append(str(folder)) or list_folder(folder))
    for again in (False, True):
        listed.clear()
        assert [entry.name for entry in TarSource(str(tmp_path)).tars] == ["0.tar"]
        assert len(listed) == (1 if again else 4)
    assert capsys.readouterr().err.count("not those in ") == 1


@pytest.mark.parametrize("ending", ["jfif", "JPE", "pjpeg"])
def test_a_jpeg_has_many_endings(tmp_path, ending):
    write_tar(tmp_path / "0.tar", (f"a.{ending}", picture()), ("a.txt", b"t"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / f"a.{ending}").write_bytes(picture())
    assert read_all(tmp_path) == [("a", picture(), "t")]
    assert read_all(tmp_path / "plain") == [(f"a.{ending}", picture(), None)]


@pytest.mark.parametrize(
    ("said", "captions"),
    [
        ({"captions": {"short": None, "descriptive": "d"}}, {"descriptive": "d"}),
        ({"captions": {"alt": None}, "text": "t"}, {"alt": "t"}),
        ({"text": "t", "caption": " "}, {"alt": "t"}),
        ({"captions": {"alt": ""}, "caption": "t"}, {"alt": "t"}),
    ],
)
def test_a_caption_that_is_null_or_blank_leaves_the_others(tmp_path, said, captions):
    write_tar(tmp_path / "0.tar", ("a.jpg", picture()), ("a.json", json.dumps(said).encode()))
    assert TarSource(tmp_path)[0].captions == captions


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_every_byte_order_mark_is_read(tmp_path, encoding):
    write_tar(tmp_path / "0.tar", ("a.jpg", picture()), ("a.txt", "ein B\xe4r".encode(encoding)))
    assert TarSource(tmp_path)[0].captions == {"alt": "ein B\xe4r"}
