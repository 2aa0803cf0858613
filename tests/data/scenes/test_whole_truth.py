"""Captions of the whole world say nothing that a background, a word or an object in front makes untrue."""

from dataclasses import replace

import pytest

from dalle3_jax.data.scenes import WHOLE, make_captions
from dalle3_jax.data.scenes.captions import other_style_phrase
from dalle3_jax.data.scenes.grammar import SHARED
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.data.scenes.scenery import ALSO_THERE, DETAILS, SPOTS, visible_phrases
from dalle3_jax.data.scenes.world import Cell

NOTHING_ELSE = SHARED["closing"] + ("exactly", "just one", "single", "all alone", "by itself", "on its own")


def versions(shown, count=60):
    """Many descriptive captions of one scene."""
    return [make_captions(WHOLE, shown, 1, index)["descriptive"].lower() for index in range(count)]


def only(kind, layout, concept, background, words=()):
    """A scene of one concept."""
    cells = WHOLE.layout(kind, layout).cells
    return Scene(kind, layout, tuple(PlacedObject(concept, cell) for cell in cells), background, words=words)


@pytest.mark.parametrize(("kind", "layout"), [("count", "row of three"), ("single", "one")])
def test_nothing_is_said_to_be_all_where_the_background_or_a_word_says_more(kind, layout):
    claims = {
        "clear": only(kind, layout, "mountain", "beach"),
        "repeated": only(kind, layout, "mountain", "mountains"),
        "lettered": only(kind, layout, "mountain", "beach", (Word("elk", "top", "sign", "red", "Lato"),)),
    }
    said = {name: " ".join(versions(shown)) for name, shown in claims.items()}
    found = {name: {way for way in NOTHING_ELSE if way in texts} for name, texts in said.items()}
    assert found["repeated"] == set()
    assert found["lettered"] <= {"exactly", "just one", "single"}
    assert found["clear"] & set(SHARED["closing"])
    assert "exactly" in found["clear"] & found["lettered"]


def test_the_backgrounds_and_concepts_that_are_alike_exist():
    assert set(ALSO_THERE) <= {row.name for row in WHOLE.backgrounds}
    assert set().union(*ALSO_THERE.values()) <= set(WHOLE.concept_names)


@pytest.mark.parametrize(
    ("background", "detail", "spot"),
    [
        ("night sky", "moon", (0.83, 0.18)),
        ("desert", "pale sun", (0.82, 0.17)),
        ("sunset", "bright sun", (0.5, 0.6)),
        ("meadow", "white clouds", (0.24, 0.13)),
        ("mountains", "highest peak", (0.42, 0.2)),
        ("red curtain", "stage", (0.5, 0.9)),
    ],
)
def test_scenery_is_told_where_nothing_is_painted_over_it(background, detail, spot):
    away, over = (PlacedObject("panda", Cell(x, y, 0.2, "centre")) for x, y in ((0.15, 0.55), spot))
    shown = Scene("one", "centre", (away,), background)
    assert any(detail in text for text in versions(shown))
    assert not any(detail in text for text in versions(replace(shown, objects=(over,))))
    slot = "top" if spot[1] < 0.28 else "bottom" if spot[1] > 0.72 else ""
    if slot:
        covered = replace(shown, words=(Word("elk", slot, "banner", "red", "Lato"),))
        assert not any(detail in text for text in versions(covered))


def test_what_may_be_covered_is_said_of_a_background_and_something_else_always_can_be():
    everywhere = Scene("one", "centre", (PlacedObject("panda", Cell(0.5, 0.5, 1.0, "centre")),), "beach")
    for row in WHOLE.backgrounds:
        for ways in (DETAILS[row.name], row.phrases, row.scenery):
            assert visible_phrases(everywhere, ways), row.name
        assert len(visible_phrases(everywhere, DETAILS[row.name])) > 1
    said = {way for row in WHOLE.backgrounds for way in DETAILS[row.name] + row.phrases + row.scenery}
    assert set(SPOTS) <= said


def test_nothing_is_at_an_edge_that_a_word_has():
    shown = replace(only("one", "top left", "panda", "beach"), words=(Word("elk", "top", "free", "red", "Lato"),))
    assert not any("corner" in text for text in versions(shown))
    assert any("corner" in text for text in versions(replace(shown, words=())))


@pytest.mark.parametrize(("style", "name"), [("photo", "a photo picture"), ("openmoji", "an openmoji picture")])
def test_styles_of_packs_are_named(style, name):
    assert other_style_phrase(style) == name
    shown = Scene("one", "centre", (PlacedObject("panda", WHOLE.layout("one", "centre").cells[0]),), "beach", style)
    assert all(name in text for text in versions(shown))
