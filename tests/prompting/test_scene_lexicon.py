"""What captions say of scenes: the exact ones give back the labels, and every kind of mistake is told."""

import pytest

from dalle3_jax.data.scenes import FIRST, WHOLE, make_captions, record_labels
from dalle3_jax.data.scenes.scene import sample_scene
from dalle3_jax.evaluation.captions.accuracy import MEASURES, score_captions
from dalle3_jax.prompting.scene_lexicon import caption_claims

LABELS = {
    "kind": "two",
    "objects": [
        {"concept": "fox", "tint": "", "place": "left", "box": [0.0, 0.3, 0.4, 0.7]},
        {"concept": "owl", "tint": "", "place": "right", "box": [0.6, 0.3, 1.0, 0.7]},
    ],
    "background": "beach",
    "words": [],
}
ONE = {**LABELS, "kind": "one", "objects": LABELS["objects"][:1]}
SIGN = {**LABELS, "kind": "count", "words": [{"text": "HELLO"}]}


def judged(caption, wanted=LABELS, world=WHOLE):
    said = caption_claims(caption, world)
    return {name: measure(said, wanted) for name, measure in MEASURES.items()}


@pytest.mark.parametrize("world", [FIRST, WHOLE], ids=["first", "whole"])
def test_exact_captions_are_wholly_right_and_those_of_other_scenes_are_not(world):
    scenes = [sample_scene(world, 3, index) for index in range(150)]
    texts = [make_captions(world, one, 3, index)["descriptive"] for index, one in enumerate(scenes)]
    found = score_captions(texts, [record_labels(world, one, 128, 128) for one in scenes], world)
    for name, row in found.rows.items():
        bad = name.endswith("not there")
        assert row.rate.value == (0.0 if bad else 1.0), name
        assert bad or row.shuffled < 0.15, name


@pytest.mark.parametrize(
    ("caption", "relation"),
    [
        ("a fox to the left of an owl", ("fox", "left of", "owl")),
        ("a fox on the left and an owl on the right side", ("fox", "left of", "owl")),
        ("On the right is the owl, and at the left is the fox.", ("fox", "left of", "owl")),
        ("An owl and a fox. The owl is right of the fox.", ("owl", "right of", "fox")),
        ("the owl stands on the right, with the fox left of it.", ("fox", "left of", "owl")),
        ("a fox in the snow above an owl", ("fox", "above", "owl")),
    ],
)
def test_relations_are_read_from_phrases_and_from_places(caption, relation):
    assert relation in caption_claims(caption, WHOLE).relations


def test_betweens_and_rows_are_read():
    between = ("pig", "between", "fox", "owl")
    assert (
        caption_claims("The pig is between the fox on the left and the owl on the right.", WHOLE).relations[0]
        == between
    )
    assert (
        between
        in caption_claims(
            "A pig, a fox, an owl. Above is the fox, below is the owl, between them is the pig.", WHOLE
        ).relations
    )
    row = caption_claims("From left to right, they are the fox, the owl and the pig.", WHOLE).relations
    assert row == (("fox", "left of", "owl"), ("owl", "left of", "pig"))


def test_numbers_tints_words_and_longer_names_are_read():
    said = caption_claims(
        'Three red cars and a bullet train on a beach. The cars stand in a row. A sign says "Star Bus".', WHOLE
    )
    assert said.things == {"car": 3, "bullet train": 1}
    assert said.tints["car"] == ("red",)
    assert said.backgrounds == ("beach",)
    assert said.words == ("Star Bus",)
    assert caption_claims("a red car and two blue cars", WHOLE).things == {"car": 3}
    assert caption_claims("foxes", WHOLE).things == {"fox": 0}
    assert caption_claims("the night sky with stars and a moon", WHOLE).things == {}


def test_a_true_caption_is_right_in_everything():
    found = judged("A fox left of an owl on a beach.")
    assert found["wholly right"] == found["nothing untrue"] == found["relations right"] == 1.0
    assert judged("A fox on the left, on a beach.", ONE)["wholly right"] == 1.0


@pytest.mark.parametrize(
    ("caption", "wrong"),
    [
        ("A fox right of an owl on a beach.", {"relations right": 0.0, "nothing untrue": 0.0}),
        ("Two foxes left of an owl on a beach.", {"counts right": 0.5, "nothing untrue": 0.0}),
        ("A fox left of an owl in the snow.", {"background named": 0.0, "background not there": 1.0}),
        ("A fox left of an owl and a pig on a beach.", {"things not there": 1.0, "nothing untrue": 0.0}),
        ("A fox on a beach.", {"objects named": 0.5, "relations right": 0.0, "nothing untrue": 1.0}),
        ('A fox left of an owl on a beach, which says "hi".', {"words not there": 1.0, "nothing untrue": 0.0}),
    ],
)
def test_every_mistake_is_told_and_none_is_wholly_right(caption, wrong):
    found = judged(caption)
    assert {name: found[name] for name in wrong} == wrong
    assert found["wholly right"] == 0.0


def test_words_are_right_letter_by_letter():
    assert judged('A fox and an owl. A sign says "HELLO".', SIGN)["words right"] == 1.0
    assert judged('A fox and an owl. A sign says "HELO".', SIGN)["words right"] == 0.0
    assert judged("A fox and an owl.", SIGN)["words right"] == 0.0
    assert judged("A fox and an owl.")["words right"] is None


def test_a_wrong_place_is_untrue():
    found = judged("A fox on the right, on a beach.", ONE)
    assert found["places right"] == found["nothing untrue"] == 0.0
