"""Parts of a world, as configs describe them."""

import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import common
from configs.demo_world import GRID_PART, PART
from dalle3_jax.data.batches import open_source
from dalle3_jax.data.scenes import FIRST, SCATTERED, WHOLE, make_record, sample_scene, world_of
from dalle3_jax.data.scenes.scene import SPLITS, check_scenes, pixel_box
from dalle3_jax.data.scenes.sprites import load_sprite
from dalle3_jax.data.sources.scenes import ScenesSource


def scenes(part, count=300, split="train"):
    world = world_of(part)
    return [sample_scene(world, 0, index, split) for index in range(count)]


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


def test_things_stand_on_a_grid_in_sizes_of_its_own():
    world = world_of({"snap": 8, "step": 16, "sizes": [1.0, 1.0], "kinds": ["one", "two"], "words": 0})
    boxes = [pixel_box(world, p.cell, 128, 128) for i in range(200) for p in sample_scene(world, 0, i).objects]
    margin = round(64 * world.margin)
    assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(64 - 2 * margin,) * 2}
    assert {(left - margin) % 8 for left, *_ in boxes} == {(top - margin) % 8 for _, top, *_ in boxes} == {0}
    with pytest.raises(ValueError, match="pictures of 128x24: both sides must be at least 32, the step in which its"):
        ScenesSource({"step": 32, "words": 0}, height=24)
    with pytest.raises(ValueError, match="pictures of 128x4: both sides must be at least 8"):
        ScenesSource({"words": 0}, height=4)


def test_a_smaller_size_that_all_layouts_share_is_that_of_their_things():
    whole, half = (world_of({"sizes": [size, size], "kinds": ["one"], "words": 0}) for size in (1.0, 0.5))
    sides = [{p.cell.size for i in range(20) for p in sample_scene(world, 0, i).objects} for world in (whole, half)]
    assert sides == [{0.56}, {0.28}]


@pytest.mark.parametrize("part", [GRID_PART, PART], ids=["grid", "part"])
def test_things_in_lines_do_not_cover_each_other(part):
    """But for the noise of their places, which may move them by a step of the grid."""
    world = replace(world_of({**part, "kinds": {"row": 1.0, "between": 1.0, "corners": 1.0}, "words": 0}), jitter=0.0)
    for index in range(200):
        boxes = [pixel_box(world, each.cell, 128, 128) for each in sample_scene(world, 0, index).objects]
        for i, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[:i]:
                covered = min(right, other[2]) - max(left, other[0]), min(bottom, other[3]) - max(top, other[1])
                assert min(covered) <= 2, boxes


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
    assert world_of({**second, "words": 0, "of": "whole", "styles": []}) is first
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
        ({"colours": 1, "shapes": 2}, "no colours: its keys are of, name, .*no shapes"),
        ({"snap": 0, "step": 1.5}, "snap is 0.0: write a whole number.*step is 1.5: write a whole"),
        ({"sizes": [1.0, 0.5]}, r"sizes is \[1.0, 0.5\]: write the smallest and the largest"),
        ({"sizes": [0.5, 1.5]}, r"sizes is \[0.5, 1.5\]: write .* in \(0, 1\]"),
        ({"of": "second"}, r"'second': choose one of \['first'"),
        ({"of": ["first"]}, r"of is \['first'\]: choose one"),
        (
            {"words": "many", "longest_word": "7"},
            "longest_word is '7': write a number.*words is 'many': write a chance",
        ),
        ({"tinted": "x", "kinds": {"one": "x"}}, "kinds is {'one': 'x'}: list names, or give.*tinted is 'x'"),
        ({"concepts": "dog", "name": 3, "words": True}, "concepts is 'dog': list names.*name is 3.0.*words is True"),
        ({"packs": "/data/twemoji", "styles": [1]}, "packs is '/data/twemoji': list folders.*styles is"),
        ({"packs": ["/nowhere"], "concepts": ["basilisk"]}, "packs is .*concepts.csv.*no 'basilisk'"),
        ({"of": "first", "words": 1.0}, "'first' has no drawn words"),
        ({"of": "first", "longest_word": 5}, "'first' has no drawn words"),
        (
            {"concepts": ["dog", "basilisk"], "styles": ["oil"]},
            r"'oil' among its styles.*'basilisk' among its concepts",
        ),
        ({"kinds": ["crowd"], "backgrounds": ["moon"]}, "'moon' among its backgrounds.*'crowd' among its kinds"),
        ({"concepts": ["dog", "cat"]}, "the style '3d' has 2 concepts, and a scene may show 5 different ones"),
        ({"kinds": ["sign"]}, r"its kinds \(sign\) are never shown: give one a weight, as in kinds = {'sign': 1.0}"),
        ({"kinds": {"one": 0}}, "kinds is .*none negative, not all zero"),
        ({"kinds": {"one": 2, "two": -1}}, "kinds is .*none negative, not all zero"),
        ({"words": 1.5, "tinted": -0.1}, r"tinted is -0.1: write a chance.*words is 1.5: write a chance in \[0, 1\]"),
        ({"longest_word": 1}, "longest_word leaves fewer than two words"),
    ],
)
def test_worlds_that_cannot_be_are_refused(part, message):
    with pytest.raises(ValueError, match=message):
        world_of(part)


def test_parts_have_names_of_their_own():
    names = {world_of(part).name for part in ({"words": 0}, {"words": 0.5}, {"of": "first"}, {"kinds": ["one"]})}
    assert len(names) == 4
    assert all(name.startswith(("part of whole ", "part of first ")) for name in names)


def test_a_part_without_scenes_of_a_split_says_so(monkeypatch):
    monkeypatch.setattr(import_module("dalle3_jax.data.scenes.scene"), "ATTEMPTS", 100)
    pair = min(sorted(pair) for pair in WHOLE.held_out.pairs)
    with pytest.raises(ValueError, match="no train scene of the kind 'two': keep more concepts"):
        scenes({"concepts": pair, "kinds": ["two"]}, 1)
    with pytest.raises(ValueError, match="'scattered' has no held_out scene"):
        sample_scene(SCATTERED, 0, 0, "held_out")


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
    plain = {"words": 0, "tinted": 0, "backgrounds": ["meadow"], "kinds": ["single"]}
    world = world_of({**plain, "packs": [pack], "styles": ["photo"]})
    assert world.concept_names == ("dog", "glass blob")
    for index in range(10):
        row = make_record(world, 0, index, 64, 64)
        (shown,) = row.labels["objects"]
        left, top, right, bottom = (round(64 * f) for f in shown["box"])
        colour = (200, 40, 90) if shown["concept"] == "glass blob" else (10, 220, 60)
        assert (np.asarray(row.image)[top:bottom, left:right] == colour).all()
        assert row.captions["short"] == f"a {shown['concept']}"
        assert "a photo picture" in row.captions["descriptive"].lower()


def test_a_pack_joins_the_world_style_by_style(pack):
    world = world_of({"packs": [pack], "kinds": {"single": 1}})
    assert world.styles == (*WHOLE.styles, "photo")
    assert world.concept_names == (*WHOLE.concept_names, "glass blob")
    ours, dog = WHOLE.concept("dog"), world.concept("dog")
    assert dog.styles == (*ours.styles, "photo")
    assert (dog.plural, dog.tints) == (ours.plural, ours.tints)
    assert (load_sprite(dog, "flat", 24) == load_sprite(ours, "flat", 24)).all()
    assert (load_sprite(dog, "photo", 24)[12, 12] == (10, 220, 60, 255)).all()


def test_packs_leave_each_other_alone_and_of_one_style_the_last_counts(pack, tmp_path_factory):
    other = tmp_path_factory.mktemp("packs") / "oil"
    copytree(pack, other)
    (other / "photo").rename(other / "oil")
    (other / "concepts.csv").write_text((other / "concepts.csv").read_text().replace(",photo,", ",oil,"))
    world = world_of({"packs": [pack, str(other)], "kinds": ["single"]})
    assert world.styles == (*WHOLE.styles, "photo", "oil")
    assert world.concept("glass blob").styles == ("photo", "oil")
    again = copytree(pack, other.parent / "again")
    last = world_of({"packs": [pack, str(again)], "kinds": ["single"]}).concept("dog")
    assert dict(last.folders) == {"photo": str(again)}


def test_a_pack_is_known_by_its_files_and_not_by_its_path(pack, tmp_path_factory):
    part = {"kinds": ["single"], "words": 0}
    moved = copytree(pack, tmp_path_factory.mktemp("packs") / "moved")
    worlds = [world_of({**part, "packs": [folder]}) for folder in (pack, str(moved))]
    assert worlds[0].digest == worlds[1].digest != world_of(part).digest
    Image.new("RGBA", (96, 96), (9, 9, 9, 255)).save(moved / "photo/dog.webp", lossless=True)
    changed = copytree(moved, moved.parent / "changed")
    assert world_of({**part, "packs": [str(changed)]}).digest != worlds[0].digest


def test_the_example_of_the_docs_makes_scenes(pack):
    text = (Path(__file__).parents[3] / "docs/scenes.md").read_text()
    (example,) = re.findall(r"```python\n(c\.data\.world.*?)```", text, re.DOTALL)
    c = common.get_config()
    exec(example.replace("/data/twemoji", pack), {"c": c})
    assert "packs" in c.data.part
    source = open_source({"world": c.data.world, "part": c.data.part.to_dict(), "size": (64, 64)})
    assert source[3].labels["background"] in c.data.part.backgrounds


def test_bare_backgrounds_are_no_part_of_what_is_held_out():
    part = world_of({"kinds": {"one": 1, "scenery": 1}, "words": 0})
    check_scenes(part, "held_out")
    kinds = {split: {sample_scene(part, 0, index, split).kind for index in range(40)} for split in SPLITS}
    assert kinds == {"train": {"one", "scenery"}, "held_out": {"one"}}
    assert [sample_scene(part, 0, i).kind for i in range(40)].count("scenery") > 10
    with pytest.raises(ValueError, match="no held_out scene of any kind: it shows bare backgrounds alone"):
        check_scenes(world_of({"kinds": {"scenery": 1}}), "held_out")


def test_four_different_things_stand_in_the_corners_where_a_part_asks_for_them():
    part = world_of({"kinds": {"corners": 1.0}, "words": 0, "snap": 8, "step": 16, "sizes": (1.0, 1.0)})
    assert WHOLE.kind("corners").weight == 0
    for index in range(20):
        record = make_record(part, 0, index, 128, 128, render=False)
        objects = record.labels["objects"]
        assert [each["place"] for each in objects] == ["top left", "top right", "bottom left", "bottom right"]
        assert len({each["concept"] for each in objects}) == 4
        said = record.captions["descriptive"].lower()
        assert all(each["concept"].lower() in said for each in objects), said
