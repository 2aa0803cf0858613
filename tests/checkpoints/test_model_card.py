"""MODEL_CARD.md: what a reader asks first, from the record alone."""

import copy
import json
from pathlib import Path

import pytest

import dalle3_jax
from dalle3_jax.checkpoints.model_card import model_card
from dalle3_jax.checkpoints.release_record import read_record

RELEASES = Path(dalle3_jax.__file__).parent / "releases"


def demo(**changes):
    record = copy.deepcopy(read_record(RELEASES / "demo"))
    return {**record, **changes}


def section(card, title):
    return card.partition(f"## {title}\n\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in RELEASES.glob("*/model.json")))
def test_shipped_cards_are_those_of_their_records(name):
    folder = RELEASES / name
    assert (folder / "MODEL_CARD.md").read_text(encoding="utf-8") == model_card(read_record(folder))


def test_a_model_of_scenes_says_what_it_has_seen_its_limits_and_its_licence():
    record = demo()
    card = model_card(record)
    data = record["training"]["config"]["data"]
    assert f"world `{data['world']}`" in section(card, "What it knows")
    assert f"{record['training']['images']:,} images" in section(card, "What it knows")
    width, height = record["sizes"][0][::-1]
    assert f"{width}x{height}" in section(card, "Its limits")
    assert f"after {record['text']['length']} tokens" in section(card, "Its limits")
    assert "Apache-2.0" in section(card, "Its licence")


def test_imported_weights_point_to_the_card_and_the_terms_of_their_model():
    card = model_card(demo(training={"imported": "org/name", "config": {"unet": {"sample_size": 64}}}))
    assert "imported from org/name" in section(card, "What it knows")
    assert section(card, "Its licence").startswith("That of org/name")


def test_nothing_is_claimed_of_data_and_weights_that_are_not_ours():
    training = json.loads(json.dumps(demo()["training"]))
    training["config"]["data"]["source"] = "/data/photographs"
    card = model_card(demo(training=training))
    assert "`/data/photographs`" in section(card, "What it knows")
    assert "Apache" not in section(card, "Its licence")
    training = json.loads(json.dumps(demo()["training"]))
    training["config"]["init"]["text_encoder"] = "google/t5-v1_1-base"
    training["config"]["init_digests"]["text_encoder"] = "0"
    assert "Apache" not in section(model_card(demo(training=training)), "Its licence")
    assert "does not say" in section(model_card(demo(training={})), "What it knows")


def test_parts_of_a_model_claim_no_pictures():
    card = model_card(demo(components={}))
    assert "Alone it makes no pictures" in section(card, "Its limits")
    assert "Pipeline.load" not in card
