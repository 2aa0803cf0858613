"""Tars as img2dataset writes them: any record by itself, an index made once, everything bad said by its reason."""

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dalle3_jax.data import files
from dalle3_jax.data.batches import open_source
from dalle3_jax.data.records import REASONS, BadRecord
from dalle3_jax.data.sources import index as indexes
from dalle3_jax.data.sources import open_folder_source, tar_index
from dalle3_jax.data.sources.tars import TarSource
from dalle3_jax.data.transforms import decode_image
from scripts import make_bad_records

SIZES = ((24, 40), (32, 32), (40, 24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tars")
    make_bad_records.write_dataset(folder, 30, 0.0, sizes=SIZES)
    return folder


def tar(path: Path, members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def picture(seed: int = 0) -> bytes:
    return make_bad_records.make_record(seed, (16, 24), "", 0).picture or b""


def test_every_record_is_read_by_itself_in_the_order_of_the_tars(tmp_path, monkeypatch):
    monkeypatch.setattr(make_bad_records, "PER_TAR", 8)
    make_bad_records.write_dataset(tmp_path, 20, 0.0, sizes=SIZES)
    source = open_folder_source(str(tmp_path))
    assert isinstance(source, TarSource)
    assert [entry.name for entry in source.tars] == ["00000.tar", "00001.tar", "00002.tar"]
    assert len(source) == 20
    for index in (19, 0, 8, 7, 16, 3):
        record, made = source[index], make_bad_records.make_record(index, SIZES[index % 3], "", 0)
        assert (record.image, record.captions) == (made.picture, {"alt": made.text.decode()})
        assert (record.height, record.width) == SIZES[index % 3] == decode_image(record.image).shape[:2]
        assert record.key == record.labels["key"] == make_bad_records.record_key(index)
    with pytest.raises(IndexError, match="record 20 of 20"):
        source[20]
    assert source.sizes(6, 18).tolist() == [list(SIZES[index % 3]) for index in range(6, 18)]


@pytest.mark.parametrize("form", make_bad_records.FORMS)
def test_every_bad_record_gives_its_reason_and_no_other_one_does(tmp_path, form):
    bad = make_bad_records.write_dataset(tmp_path, 60, 0.6, form, sizes=SIZES)
    assert len(bad) == 36
    assert set(bad.values()) == set(REASONS)
    source, found, keyless = open_folder_source(str(tmp_path)), {}, 0
    for index in range(len(source)):
        try:
            record = source[index]
            decode_image(record.image, record.key)
        except BadRecord as error:
            found[index] = error.reason
            keyless += not error.key
    assert (found, keyless) == (bad, 0)
    sizes = source.sizes(0, 60)
    assert sizes is not None
    assert sizes.dtype == np.int32
    assert all(sizes[index].tolist() == list(SIZES[index % 3]) for index in range(60) if index not in bad)


def test_an_index_is_made_once_and_again_when_its_tar_changes(tmp_path, monkeypatch):
    make_bad_records.write_dataset(tmp_path, 6, 0.0)
    made = []
    monkeypatch.setattr(
        "dalle3_jax.data.sources.tars.index_tar", lambda entry: made.append(entry) or tar_index.index_tar(entry)
    )
    first = TarSource(tmp_path)
    assert len(first) == 6
    assert len(TarSource(tmp_path)) == 6
    assert len(made) == 1
    make_bad_records.write_dataset(tmp_path, 7, 0.0)
    assert len(TarSource(tmp_path)) == 7
    assert len(made) == 2
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_broken_index_is_made_again(tmp_path):
    make_bad_records.write_dataset(tmp_path, 6, 0.0)
    key = TarSource(tmp_path)[5].key
    [path] = (tmp_path / indexes.BESIDE).iterdir()
    for content in (b"", path.read_bytes()[:200]):
        path.write_bytes(content)
        assert TarSource(tmp_path)[5].key == key


def test_an_index_of_a_folder_that_cannot_be_written_to_lies_at_home(tmp_path, monkeypatch):
    make_bad_records.write_dataset(tmp_path / "data", 6, 0.0)
    (tmp_path / "data" / indexes.BESIDE).write_text("in the way")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert len(TarSource(tmp_path / "data")) == 6
    assert list((tmp_path / "home").rglob("*.npy"))


@pytest.mark.parametrize("home", ["file", "none"])
def test_an_index_that_can_be_kept_nowhere_is_made_every_time_and_that_is_said_once(
    tmp_path, monkeypatch, capsys, home
):
    monkeypatch.setattr(make_bad_records, "PER_TAR", 3)
    make_bad_records.write_dataset(tmp_path / "data", 6, 0.0)
    for name in ("data/" + indexes.BESIDE, "home"):
        (tmp_path / name).write_text("in the way")

    def find_home():
        if home == "none":
            raise RuntimeError("no home")
        return tmp_path / "home"

    monkeypatch.setattr(Path, "home", find_home)
    assert [TarSource(tmp_path / "data")[5].key for _ in range(2)] == ["000010002"] * 2
    assert capsys.readouterr().err.count("note: ") == 1


def test_a_tar_that_changes_under_a_run_is_refused(tmp_path):
    make_bad_records.write_dataset(tmp_path, 6, 0.0)
    source = TarSource(tmp_path)
    assert source[2].key
    make_bad_records.write_dataset(tmp_path, 6, 0.0, sizes=SIZES)
    with pytest.raises(ValueError, match=r"00000\.tar has changed since"):
        [source[index] for index in range(6)]
    (tmp_path / "00000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"00000\.tar has changed since"):
        source[2]


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_tar_cut_short_is_refused_by_name(folder, tmp_path, kept):
    content = (folder / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"00000\.tar is damaged or cut short"):
        len(TarSource(tmp_path))


def test_a_tar_cut_between_two_members_or_with_rubbish_in_it_is_refused_too(folder, tmp_path):
    content = (folder / "00000.tar").read_bytes()
    starts = TarSource(folder).tables[0]["start"]
    for rest in (b"", b"\x07" * 1024):
        (tmp_path / "00000.tar").write_bytes(content[: starts[20]] + rest)
        with pytest.raises(ValueError, match="is damaged or cut short"):
            len(TarSource(tmp_path))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_foreign_members_are_read(tmp_path, form):
    long = "d/" * 60 + "x" * 90
    members = {
        "._a.jpg": b"what a Mac leaves",
        "a.jpg": picture(1),
        "a.txt": b"one",
        f"{long}.JPEG": picture(2),
        f"{long}.cls": b"7",
        "only.txt": b"no picture",
        "b.seg.png": b"another picture of b",
        "b.jpg": picture(3),
    }
    tar(tmp_path / "x.tar", members, form)
    source = TarSource(tmp_path)
    assert [source[0].key, source[1].key, source[3].key] == ["a", long, "b"]
    assert [source[i].image for i in (0, 1, 3)] == [picture(1), picture(2), picture(3)]
    assert (source[0].captions, source[1].captions) == ({"alt": "one"}, {})
    with pytest.raises(BadRecord, match=r"'only' \(missing\)"):
        source[2]


def test_captions_come_from_the_text_and_from_the_fields_that_a_config_names(tmp_path):
    said = {"caption": "other", "long": "a descriptive one", "captions": {"short": "s"}, "url": "u", "alt": None}
    tar(tmp_path / "x.tar", {"a.jpg": picture(), "a.txt": "tëxt".encode(), "a.json": json.dumps(said).encode()})
    usual, named = (
        open_folder_source(str(tmp_path))[0],
        open_folder_source(str(tmp_path), fields={"long": "descriptive"})[0],
    )
    assert usual.captions == {"alt": "tëxt", "short": "s"}
    assert usual.labels == {"long": "a descriptive one", "url": "u"}
    assert named.captions == {"alt": "tëxt", "short": "s", "descriptive": "a descriptive one"}
    assert open_source({"source": str(tmp_path), "fields": {"long": "descriptive"}})[0] == named
    with pytest.raises(ValueError, match=r"data.fields is \{'long': 7\}: name the version"):
        open_source({"source": str(tmp_path), "fields": {"long": 7}})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"[1]", "json"),
        (b'{"caption": 7}', "json"),
        (b'{"captions": ["a"]}', "json"),
        (b"[" * 100_000, "json"),
        (b'{"caption": "\\ud800"}', "encoding"),
        (b'{"caption": "\xff"}', "encoding"),
        (b'{"captions": {"short": ""}}', "caption"),
        (json.dumps({"captions": {"short": "x" * 100_001}}).encode(), "length"),
    ],
)
def test_bad_json_is_told_from_bad_text(tmp_path, said, reason):
    tar(tmp_path / "x.tar", {"a.jpg": picture(), "a.json": said})
    with pytest.raises(BadRecord) as found:
        TarSource(tmp_path)[0]
    assert (found.value.reason, found.value.key) == (reason, "a")


def test_fingerprints_follow_the_content_and_not_the_place(folder, tmp_path):
    names = [tmp_path / name for name in ("copy", "sizes", "fewer")]
    make_bad_records.write_dataset(names[0], 30, 0.0, sizes=SIZES)
    make_bad_records.write_dataset(names[1], 30, 0.0, sizes=SIZES[:1])
    make_bad_records.write_dataset(names[2], 29, 0.0, sizes=SIZES)
    for path in (folder, names[0]):  # members' times are 0, files' are not
        assert TarSource(path).fingerprint == TarSource(folder).fingerprint
    others = {TarSource(path).fingerprint for path in names[1:]}
    assert len(others | {TarSource(folder).fingerprint, TarSource(folder, {"a": "b"}).fingerprint}) == 4


def test_tars_in_a_bucket_are_read_a_record_at_a_time(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    store = fsspec.filesystem("memory")
    store.put(str(folder / "00000.tar"), "/shelf/tars/00000.tar")
    source, local = open_folder_source("memory://shelf/tars"), open_folder_source(str(folder))
    asked = []
    monkeypatch.setattr(
        files, "read_bytes", lambda path, *ends, read=files.read_bytes: asked.append(ends) or read(path, *ends)
    )
    assert source.fingerprint == local.fingerprint
    assert [source[i].image for i in (29, 4)] == [local[i].image for i in (29, 4)]
    assert store.exists(f"/shelf/tars/{indexes.BESIDE}")
    ranges = [ends for ends in asked if ends]
    assert len(ranges) == 4
    assert all(end - start < 6000 for start, end in ranges)
    store.rm("/shelf", recursive=True)


def test_what_is_no_dataset_is_named(tmp_path):
    with pytest.raises(ValueError, match="is empty or not there"):
        open_folder_source(str(tmp_path / "nowhere"))
    for name, hint in (
        ("cat.doc", ""),
        ("00000.tar.gz", r"; 00000\.tar\.gz: unpack it"),
        ("x.parquet", ".*; x.parquet: "),
    ):
        (tmp_path / name).write_bytes(picture())
        with pytest.raises(ValueError, match=rf"holds none of them, only .*or pictures{hint}"):
            open_folder_source(str(tmp_path))
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="give a path or a gs:// address"):
        open_folder_source("nothing://bucket")
