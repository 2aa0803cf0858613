"""Sidecars: whole, resumable, shared out over processes, joined by key, and never mistaken for another source's."""

import json
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dalle3_jax.data.caches import sidecars
from dalle3_jax.data.caches.sidecar_writer import (
    CaptionFunctions,
    chunks_of_process,
    finish_sidecars,
    missing_chunks,
    start_sidecars,
    write_chunks,
)
from dalle3_jax.data.caches.sidecars import Sidecars, add_sidecars
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from scripts import make_bad_records

SOURCE = ScenesSource(seed=5, height=32, width=32)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sidecars, "CHUNK", 8)


class Captions:
    """What a picture's pixels come to, counting what it is asked for."""

    def __init__(self, most=10**9):
        self.places, self.shapes, self.most = [], set(), most

    def __call__(self, pictures, places):
        if len(self.places) >= self.most:
            raise KeyboardInterrupt
        self.places += places
        self.shapes |= {picture.shape for picture in pictures}
        return [text_of(picture) for picture in pictures]


def text_of(picture):
    return f"a picture of {int(picture.astype(np.int64).sum())}"


def kept(index, alt, text):
    """A guard that says of which record it was asked, and shouts at every fifth."""
    return (f"{text}; {alt}".upper(), ("loud",)) if index % 5 == 0 else (f"{text}; {alt}", ())


def made_of(source=SOURCE, version="mine", **more):
    made = {"captioner": "c", "guards": {}, "date": "then", "software": {}, **more}
    return {
        "format": 1,
        "version": version,
        "source": sidecars.sizeless_fingerprint(source.fingerprint),
        "chunk": 8,
        "made": made,
    }


def build(folder, count, captions=None, source=SOURCE, made=None, size=None, **most):
    captioning = CaptionFunctions(captions or Captions(), kept, size, 2)
    start_sidecars(str(folder), made or made_of(source))
    write_chunks(str(folder), source, captioning, missing_chunks(str(folder), chunks_of_process(count)), **most)
    finish_sidecars(str(folder), count)
    return Sidecars.open(str(folder), source.fingerprint)


def expected(index, source=SOURCE):
    record = source[index]
    return record.key, kept(index, record.captions["alt"], text_of(decode_image(record.image)))[0]


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.jsonl")}


def test_a_folder_holds_a_caption_of_every_record_and_what_the_guards_did(tmp_path):
    told = []
    start_sidecars(str(tmp_path), made_of())
    write_chunks(str(tmp_path), SOURCE, CaptionFunctions(Captions(), kept), chunks_of_process(20), progress=told.append)
    record = finish_sidecars(str(tmp_path), 20)
    found = Sidecars.open(str(tmp_path), SOURCE.fingerprint)
    assert (len(found), sum(told), found.version) == (20, 20, "mine")
    assert [found[index] for index in range(20)] == [expected(index) for index in range(20)]
    assert (record["flags"], record["bad"], record["count"]) == ({"loud": 4}, {}, 20)
    assert found.read_line(5)["flags"] == ["loud"]
    assert found.read_line(6).keys() == {"index", "key", "caption"}
    assert sorted(contents(tmp_path)) == ["00000.jsonl", "00001.jsonl", "00002.jsonl"]
    for index in (20, -1):
        with pytest.raises(IndexError, match="of 20"):
            found[index]


def test_a_run_goes_on_where_it_was_stopped_without_gap_or_double(tmp_path):
    whole = build(tmp_path / "whole", 20)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "cut", 20, Captions(most=9))
    assert sorted(contents(tmp_path / "cut")) == ["00000.jsonl", "00001.jsonl"]
    with pytest.raises(ValueError, match="holds no finished captions: run dalle3-jax recaption"):
        Sidecars.open(str(tmp_path / "cut"))
    with pytest.raises(ValueError, match=r"lacks 1 of 3 files, first 00002\.jsonl"):
        finish_sidecars(str(tmp_path / "cut"), 20)
    captions = Captions()
    cut = build(tmp_path / "cut", 20, captions)
    assert captions.places == [16, 17, 18, 19]
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert cut.digest == whole.digest


def test_a_run_that_is_killed_while_it_writes_goes_on(tmp_path):
    code = f"""
        import os, signal
        from pathlib import Path
        from dalle3_jax.data.caches import sidecars
        from tests.data.caches.test_sidecars import build
        sidecars.CHUNK, whole, written = 8, Path.write_bytes, []
        def write_bytes(path, content):
            if "00001" in path.name:
                whole(path, content[:99])
                os.kill(os.getpid(), signal.SIGKILL)
            return whole(path, content)
        Path.write_bytes = write_bytes
        build({str(tmp_path)!r}, 20)
    """
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert sorted(contents(tmp_path)) == ["00000.jsonl"]
    captions = Captions()
    found = build(tmp_path, 20, captions)
    assert captions.places == [*range(8, 20)]
    assert [found[index] for index in range(20)] == [expected(index) for index in range(20)]


def test_a_finished_folder_is_left_as_it_is_and_grows(tmp_path):
    short, before = build(tmp_path, 12), contents(tmp_path)
    again, grown = Captions(), Captions()
    assert build(tmp_path, 12, again).digest == short.digest
    assert len(build(tmp_path, 10, again)) == 12  # nothing that is there is thrown away
    assert again.places == []
    assert len(build(tmp_path, 20, grown)) == 20
    assert grown.places == [*range(8, 20)]  # the second file was short
    assert contents(tmp_path)["00000.jsonl"] == before["00000.jsonl"]


def test_processes_share_the_files_out(tmp_path):
    build(tmp_path / "one", 30)
    start_sidecars(str(tmp_path / "two"), made_of())
    places = []
    for process in (1, 0):
        captions = Captions()
        write_chunks(str(tmp_path / "two"), SOURCE, CaptionFunctions(captions, kept), chunks_of_process(30, process, 2))
        places += captions.places
    finish_sidecars(str(tmp_path / "two"), 30)
    assert sorted(places) == [*range(30)]
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.parametrize("form", ["tars", "folder"])
def test_bad_records_are_said_by_reason_and_the_data_stays_as_it_is(tmp_path, form):
    data = tmp_path / "data"
    bad = make_bad_records.write_dataset(data, 60, 0.4, form, sizes=[(40, 80), (64, 64)])
    source = open_folder_source(str(data))
    len(source)  # makes its index
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in data.rglob("*") if path.is_file()}
    captions = Captions()
    found = build(tmp_path / "out", 60, captions, source, size=(16, 24))
    assert captions.shapes == {(16, 24, 3)}
    assert found.manifest["bad"] == Counter(bad.values())
    for index in range(60):
        if index in bad:
            assert found.read_line(index)["bad"] == bad[index]
            with pytest.raises(BadRecord) as caught:
                found[index]
            assert caught.value.reason == bad[index]
        else:
            assert found[index][0] == source[index].key
    assert before == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in data.rglob("*") if path.is_file()}


def test_an_empty_caption_is_a_bad_record_and_too_many_stop_the_run(tmp_path):
    captioning = CaptionFunctions(Captions(), lambda index, alt, text: ("" if index % 4 == 0 else text, ("control",)))
    start_sidecars(str(tmp_path), made_of())
    write_chunks(str(tmp_path), SOURCE, captioning, chunks_of_process(16))
    assert finish_sidecars(str(tmp_path), 16)["bad"] == {"caption": 4}
    found = Sidecars.open(str(tmp_path))
    assert found.read_line(4) == {"index": 4, "key": SOURCE[4].key, "bad": "caption", "flags": ["control"]}
    with pytest.raises(BadRecord, match="no caption 'mine'"):
        add_sidecars(SOURCE, [str(tmp_path)])[4]
    silent = CaptionFunctions(Captions(), lambda index, alt, text: ("", ()))
    with pytest.raises(ValueError, match=r"15 of the first 15 records cannot be used.*nothing is left of"):
        write_chunks(str(tmp_path), SOURCE, silent, chunks_of_process(200), max_bad=0.5)


def test_a_folder_of_something_else_is_refused_by_what_differs(tmp_path):
    build(tmp_path, 4)
    later = made_of(date="now", software={"jax": "1"})
    start_sidecars(str(tmp_path), later)
    assert json.loads((tmp_path / "made.json").read_text())["made"]["date"] == "then"
    for made, said in (
        (made_of(version="yours"), "version is 'mine' there and 'yours' here"),
        (made_of(captioner="d"), "captioner is 'c' there and 'd' here"),
        (made_of(guards={"words": "alt"}), "guards is {} there and {'words': 'alt'} here"),
        (made_of(replace(SOURCE, seed=6)), "source is 'scenes/first/train/5' there and 'scenes/first/train/6' here"),
    ):
        with pytest.raises(ValueError, match=r"the sidecar .* was made from something else") as caught:
            start_sidecars(str(tmp_path), made)
        assert said in str(caught.value)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metadata.jsonl").touch()
    with pytest.raises(ValueError, match=r"holds metadata\.jsonl and no captions of ours"):
        start_sidecars(str(tmp_path / "other"), made_of())


def test_a_damaged_file_is_named(tmp_path):
    build(tmp_path, 20)
    path = tmp_path / "00001.jsonl"
    good = path.read_bytes()
    path.write_bytes(good.replace(b"picture", b"pixture", 1))
    found = Sidecars.open(str(tmp_path))
    assert found[7] == expected(7)
    with pytest.raises(ValueError, match=r"00001\.jsonl is damaged"):
        found[8]
    path.write_bytes(b"\n".join(good.splitlines()[::-1]))
    with pytest.raises(ValueError, match=r"00001\.jsonl does not hold the records from 8 on"):
        finish_sidecars(str(tmp_path), 20)
    path.unlink()
    with pytest.raises(ValueError, match=r"lacks 00001\.jsonl"):
        Sidecars.open(str(tmp_path))


def test_sidecars_in_a_bucket_are_written_and_read_like_those_in_a_folder(tmp_path):
    build(tmp_path, 10)
    found = build("memory://captions/a", 10)
    assert [found[index] for index in range(10)] == [expected(index) for index in range(10)]
    assert found.digest == Sidecars.open(str(tmp_path)).digest
    fsspec.filesystem("memory").rm("/captions", recursive=True)
