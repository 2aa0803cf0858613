"""What is drawn where the records have other captions than those that are asked for."""

import numpy as np
import pytest

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.caption_versions import main_version, note_only_version, usable_captions
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import read_good_records
from dalle3_jax.data.sources.folder import FolderSource

BLEND = {"descriptive": 0.95, "short": 0.0, "alt": 0.05}


class Captioned(FolderSource):
    """Records of black pictures with such versions of captions; None: a bad record."""

    def __init__(self, *versions):
        object.__setattr__(self, "versions", versions)

    def __len__(self):
        return len(self.versions)

    def __getitem__(self, index):
        if self.versions[index] is None:
            raise BadRecord("empty", str(index), "so it is")
        captions = {version: f"{version} {index}" for version in self.versions[index].split()}
        return Record(str(index), np.zeros((8, 8, 3), np.uint8), 8, 8, captions)


@pytest.fixture(autouse=True)
def unsaid():
    note_only_version.cache_clear()


def test_what_is_there_is_drawn_as_it_is_asked_for(capsys):
    for versions in (("alt descriptive",), (None, "alt", "descriptive"), (None, None)):
        assert usable_captions(Captioned(*versions), BLEND) == BLEND
    assert capsys.readouterr().err == ""


def test_the_only_version_there_is_is_drawn_every_time_and_that_is_said_once(capsys):
    for _ in range(2):
        assert usable_captions(Captioned(None, "alt", "alt"), BLEND) == {"alt": 1.0}
    said = capsys.readouterr().err
    assert said.count("note: the records have no caption descriptive: alt, the only version") == 1
    assert "--config.data.captions=\"{'alt': 1.0}\"" in said
    settings = {"source": "x", "size": (8, 8), "captions": BLEND, "dropout": 0.0, "text_length": 5}
    texts = []

    def tokenize(captions, length):
        texts.extend(captions)
        return np.zeros((len(captions), length), np.int32), np.ones((len(captions), length), bool)

    next(make_batches(settings, tokenize=tokenize, batch_size=8, seed=0, source=Captioned(*["alt"] * 8)))
    assert sorted(set(texts)) == [f"alt {index}" for index in range(8)]


def test_where_there_are_others_or_none_the_flag_and_the_remedy_are_named():
    with pytest.raises(ValueError, match=r"\['descriptive'\], and the records have \['alt', 'short'\].*recaption"):
        usable_captions(Captioned("short", "alt"), BLEND)
    with pytest.raises(ValueError, match=r"the records have no captions: write captions with dalle3-jax recaption"):
        usable_captions(Captioned("", ""), BLEND)


def test_good_records_are_those_that_can_be_used_and_have_the_version():
    source = Captioned("alt", None, "short", "alt short", "alt")
    assert [record.key for record, _ in read_good_records(source, 2, "alt")] == ["0", "3"]
    assert [record.key for record, pixels in read_good_records(source, 9) if pixels.shape == (8, 8, 3)] == list("0234")
    assert main_version(BLEND) == "descriptive"
