"""Parts of a world, as configs describe them."""

from importlib import import_module

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.data.scenes import FIRST, SCATTERED, WHOLE, captions, record, scene, world_of


def scenes(part, count=300, split="train"):
    world = world_of(part)
    return [scene(world, 0, index, split) for index in range(count)]


def test_names_are_whole_worlds():
    assert (world_of("first"), world_of("whole"), world_of("scattered")) == (FIRST, WHOLE, SCATTERED)


def test_only_what_is_kept_is_shown():
    animals = ["dog", "cat", "lion", "tiger", "wolf", "cow", "bear"]
    part = {"concepts": animals, "styles": ["flat", "noto"], "backgrounds": ["beach"], "kinds": ["two", "between"]}
    shown = scenes(part)
    assert {name for each in shown for name in each.concepts} == set(animals)
    assert {each.style for each in shown} == {"flat", "noto"}
    assert {each.background for each in shown} == {"beach"}
    assert {each.kind for each in shown} == {"two", "between"}


def test_kinds_may_have_other_weights():
    kinds = [each.kind for each in scenes({"kinds": {"one": 3.0, "row": 1.0, "two": 0}}, 600)]
    assert kinds.count("one") / 600 == pytest.approx(0.75, abs=0.05)
    assert "two" not in kinds


def test_words_are_drawn_as_often_as_asked_and_no_longer():
    assert not [each for each in scenes({"words": 0}) if each.words]
    always = scenes({"words": 1, "longest_word": 4, "kinds": ["count"]})
    texts = [len(word.text) for each in always for word in each.words]
    assert max(texts) == 4
    numbers = [len(each.words) for each in always if each.layout.startswith("row")]
    assert min(numbers) == 1
    assert numbers.count(2) / len(numbers) == pytest.approx(0.4 * 0.81 / (0.4 * 0.81 + 0.6 * 0.9), abs=0.1)


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_tints_are_drawn_as_often_as_asked(chance):
    drawn = {
        bool(p.tint) for each in scenes({"tinted": chance}) for p in each.objects if WHOLE.concept(p.concept).tints
    }
    assert drawn == {bool(chance)}


def test_parts_hold_out_what_their_world_does():
    part = {"kinds": ["two"], "words": 0}
    assert not [each for each in scenes(part) if frozenset(each.concepts) in WHOLE.held_out.pairs]
    found = scenes(part, 40, "held_out")
    assert [each for each in found if frozenset(each.concepts) in WHOLE.held_out.pairs]
    assert world_of({"of": "first", "kinds": ["two"]}).held_out == FIRST.held_out


def test_equal_descriptions_are_one_world():
    first = world_of({"words": 0.0, "kinds": {"one": 1.0, "two": 2.0}, "concepts": ["dog", "cat", "cow"]})
    second = {"concepts": ("dog", "cat", "cow"), "kinds": {"two": 2.0, "one": 1.0}, "words": 0.0}
    assert world_of(second) is first
    assert world_of(dict(ConfigDict(second))) is first
    assert world_of({**second, "words": 0.5}) != first


def test_nothing_said_leaves_everything():
    part = world_of({"concepts": [], "kinds": ()})
    assert (part.concepts, part.kinds, part.styles, part.lettering) == (
        WHOLE.concepts,
        WHOLE.kinds,
        WHOLE.styles,
        WHOLE.lettering,
    )
    assert world_of({"of": "scattered", "name": "mine"}).name == "mine"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"colours": 1, "sizes": 2}, "no colours, sizes: its keys are of, name"),
        ({"of": "second"}, r"'second': choose one of \['first'"),
        (
            {"concepts": ["dog", "basilisk"], "styles": ["oil"]},
            r"'oil' among its styles.*'basilisk' among its concepts",
        ),
        ({"kinds": ["crowd"], "backgrounds": ["moon"]}, "'moon' among its backgrounds.*'crowd' among its kinds"),
        ({"concepts": ["dog", "cat"]}, "the style '3d' has 2 concepts, and a scene may show 5 different ones"),
        ({"kinds": {"one": 0}}, "weights of kinds must not be negative, nor all be zero"),
        ({"kinds": {"one": 2, "two": -1}}, "weights of kinds"),
        ({"words": 1.5, "tinted": -0.1}, r"words is a chance in \[0, 1\].*tinted is a chance"),
        ({"longest_word": 1}, "longest_word leaves fewer than two words"),
    ],
)
def test_worlds_that_cannot_be_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        world_of(part)


def test_a_part_without_scenes_of_a_split_says_so(monkeypatch):
    monkeypatch.setattr(import_module("dalle3_jax.data.scenes.scene"), "ATTEMPTS", 100)
    pair = min(sorted(pair) for pair in WHOLE.held_out.pairs)
    with pytest.raises(ValueError, match="no train scene of the kind 'two': keep more concepts"):
        scenes({"concepts": pair, "kinds": ["two"]}, 1)
    with pytest.raises(ValueError, match="'scattered' has no held_out scene"):
        scene(SCATTERED, 0, 0, "held_out")


@pytest.fixture
def pack(tmp_path):
    """A folder of sprites: a blob, and a dog in place of ours."""
    (tmp_path / "photo").mkdir()
    for name, colour in (("glass_blob", (200, 40, 90, 255)), ("dog", (10, 220, 60, 255))):
        Image.new("RGBA", (96, 96), colour).save(tmp_path / "photo" / f"{name}.webp", lossless=True)
    rows = ["name,plural,article,code,styles,tints", "glass blob,glass blobs,a,,photo,", "dog,dogs,a,,photo,"]
    (tmp_path / "concepts.csv").write_text("\n".join(rows) + "\n")
    return str(tmp_path)


def test_sprites_of_a_pack_are_drawn_and_named(pack):
    part = {"packs": [pack], "styles": ["photo"], "kinds": ["single"], "words": 0, "backgrounds": ["meadow"]}
    world = world_of(part)
    assert world.names == ("glass blob", "dog")
    for index in range(10):
        row = record(world, 0, index, 64, 64)
        (shown,) = row.labels["objects"]
        left, top, right, bottom = (round(64 * f) for f in shown["box"])
        colour = (200, 40, 90) if shown["concept"] == "glass blob" else (10, 220, 60)
        assert (np.asarray(row.image)[top:bottom, left:right] == colour).all()
        assert row.captions["short"] == f"a {shown['concept']}"
        assert "a picture" in row.captions["descriptive"].lower()


def test_a_pack_joins_the_world_and_replaces_what_has_its_names(pack):
    world = world_of({"packs": [pack], "kinds": {"count": 1}})
    assert world.styles == (*WHOLE.styles, "photo")
    assert set(world.names) == {*WHOLE.names, "glass blob"}
    assert len(world.concepts) == len(WHOLE.concepts) + 1
    assert world.concept("dog").folder == pack
    said = [captions(world, scene(world, 0, i), 0, i)["short"] for i in range(300)]
    assert [text for text in said if text.endswith("glass blobs")]
