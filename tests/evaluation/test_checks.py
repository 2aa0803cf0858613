"""The checks: faultless pictures of all committed prompts pass, and every doctored one fails for the right reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dalle3_jax.data.scenes import WHOLE, record_labels
from dalle3_jax.data.scenes.layouts import place_at
from dalle3_jax.evaluation.checks import (
    CHECKS,
    ImageReading,
    applicable_checks,
    is_above,
    is_between,
    is_left_of,
    passes_all_checks,
    run_checks,
)
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.suites import load_suite
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject, true_reading

SUITE = load_suite()
SHORTER = 128


def true_sight(prompt: Prompt) -> ImageReading:
    """What a faultless reader and OCR see in the faultless picture of a prompt."""
    assert prompt.scene
    width, height = (side * SHORTER // min(prompt.aspect) for side in prompt.aspect)
    reading = true_reading(record_labels(WHOLE, prompt.scene, height, width), height, width)
    return ImageReading(reading, tuple(word.text for word in prompt.scene.words), (height, width))


def failed(sight: ImageReading, wanted: Labels) -> set[str]:
    """The checks that a picture fails."""
    return {name for name, passed in run_checks(sight, wanted).items() if not passed}


def test_faultless_pictures_pass_every_check():
    assert {prompt.id: failed(true_sight(prompt), prompt.labels) for prompt in SUITE} == {p.id: set() for p in SUITE}


def test_every_check_is_needed_by_some_prompts_and_words_by_an_ocr_alone():
    asked = [set(run_checks(true_sight(prompt), prompt.labels)) for prompt in SUITE]
    assert min(sum(name in names for names in asked) for name in set.union(*asked)) >= 14
    everything = Labels((RequestedObject("a", 1, "red", "top"),), ((0, "left of", 1),), "b", "c", ("d",), ("e",))
    assert set.union(*asked) == set(applicable_checks(everything)) == set(CHECKS)
    for prompt, names in zip(SUITE, asked, strict=True):
        blind = true_sight(prompt)._replace(words=None)
        assert set(run_checks(blind, prompt.labels)) == names - {"words"}
        assert passes_all_checks(blind, prompt.labels)


def shown(sight: ImageReading, *objects: SeenObject, **changes: str) -> ImageReading:
    """A sight with other objects, or of another style or background."""
    reading = replace(sight.reading, **changes)
    return sight._replace(reading=replace(reading, objects=objects or reading.objects))


def turned(sight: ImageReading) -> ImageReading:
    """Every object where the next one was."""
    old = sight.reading.objects
    return shown(sight, *(replace(a, x=b.x, y=b.y) for a, b in zip(old, old[1:] + old[:1], strict=True)))


def moved(sight: ImageReading) -> ImageReading:
    """The first object at the opposite place, or, from the centre, in a corner."""
    first, *rest = sight.reading.objects
    centre = place_at(first.x, first.y) == "centre"
    x, y = (0.25, 0.25) if centre else (1 - first.x, 1 - first.y)
    return shown(sight, replace(first, x=x, y=y), *rest)


def other(name: str, *names: str) -> str:
    """Another one of the names."""
    return next(another for another in names if another != name)


def recoloured(sight: ImageReading, number: int) -> ImageReading:
    """One object in another tint."""
    found = list(sight.reading.objects)
    found[number] = replace(found[number], tint=other(found[number].tint, "", "green"))
    return shown(sight, *found)


EXTRA = SeenObject("unheard of", "", 0.5, 0.5, 0.2)

Doctoring = tuple[Callable[[Labels], object], Callable[[ImageReading, Labels], ImageReading], set[str]]
DOCTORED: dict[str, Doctoring] = {
    "swapped": (lambda wanted: wanted.relations, lambda sight, wanted: turned(sight), {"relations"}),
    "misplaced": (
        lambda wanted: any(one.place for one in wanted.objects),
        lambda sight, wanted: moved(sight),
        {"places"},
    ),
    "one more": (
        lambda wanted: wanted.objects,
        lambda sight, wanted: shown(sight, *sight.reading.objects, sight.reading.objects[0]),
        {"counts"},
    ),
    "foreign": (
        lambda wanted: wanted.objects,
        lambda sight, wanted: shown(sight, *sight.reading.objects, EXTRA),
        {"nothing else"},
    ),
    "another style": (
        lambda wanted: wanted.style,
        lambda sight, wanted: shown(sight, style=other(wanted.style, "3d", "flat")),
        {"style"},
    ),
    "another background": (
        lambda wanted: wanted.background,
        lambda sight, wanted: shown(sight, background=other(wanted.background, "sea", "snow")),
        {"background"},
    ),
    "misspelt": (
        lambda wanted: wanted.words,
        lambda sight, wanted: sight._replace(words=(*wanted.words[1:], wanted.words[0][:-1] + "#")),
        {"words"},
    ),
    "no word": (lambda wanted: wanted.words, lambda sight, wanted: sight._replace(words=wanted.words[1:]), {"words"}),
    "another word": (
        lambda wanted: wanted.words,
        lambda sight, wanted: sight._replace(words=(*wanted.words, "MORE")),
        {"words"},
    ),
    "another case": (
        lambda wanted: wanted.words,
        lambda sight, wanted: sight._replace(words=tuple(word.swapcase() for word in wanted.words)),
        {"words"},
    ),
    "absent": (
        lambda wanted: wanted.absent,
        lambda sight, wanted: shown(sight, *sight.reading.objects, replace(EXTRA, concept=wanted.absent[0])),
        {"absent", "nothing else"},
    ),
    "first recoloured": (
        lambda wanted: any(one.tint for one in wanted.objects),
        lambda sight, wanted: recoloured(sight, 0),
        {"tints"},
    ),
    "last recoloured": (
        lambda wanted: any(one.tint for one in wanted.objects),
        lambda sight, wanted: recoloured(sight, -1),
        {"tints"},
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_doctored_pictures_fail_for_the_right_reason_alone(name):
    applies, doctor, reasons = DOCTORED[name]
    chosen = [prompt for prompt in SUITE if applies(prompt.labels)]
    found = {prompt.id: failed(doctor(true_sight(prompt), prompt.labels), prompt.labels) for prompt in chosen}
    assert len(chosen) >= 14
    assert found == {prompt.id: reasons for prompt in chosen}


@pytest.mark.parametrize("last", [False, True])
def test_pictures_without_one_of_the_objects_fail(last):
    for prompt in (prompt for prompt in SUITE if prompt.labels.objects):
        sight = true_sight(prompt)
        left = sight.reading.objects[:-1] if last else sight.reading.objects[1:]
        wrong = failed(sight._replace(reading=replace(sight.reading, objects=left)), prompt.labels)
        gone = {seen.concept for seen in sight.reading.objects} - {seen.concept for seen in left}
        assert "counts" in wrong, prompt.id
        assert ("objects" in wrong) == bool(gone), prompt.id


def test_an_empty_picture_has_nothing_of_what_was_asked_for():
    empty = ImageReading(SceneReading("sea", "flat", ()), (), (128, 128))
    wanted = Labels(
        (RequestedObject("car", 1, "red", "left"), RequestedObject("dog")),
        ((0, "left of", 1),),
        "",
        "flat",
        ("HI",),
        ("pig",),
    )
    assert failed(empty, wanted) == {"objects", "counts", "tints", "places", "relations", "style", "words"}


@pytest.mark.parametrize(
    ("x", "y", "place"),
    [
        (0.5, 0.5, "centre"),
        (0.41, 0.59, "centre"),
        (0.39, 0.5, "left"),
        (0.61, 0.5, "right"),
        (0.5, 0.39, "top"),
        (0.5, 0.61, "bottom"),
        (0.2, 0.2, "top left"),
        (0.8, 0.2, "top right"),
        (0.2, 0.8, "bottom left"),
        (0.8, 0.8, "bottom right"),
    ],
)
def test_a_frame_has_nine_places(x, y, place):
    assert place_at(x, y) == place


def test_beside_is_clearly_and_more_than_above():
    assert is_left_of((0.3, 0.5), (0.41, 0.5))
    assert not is_left_of((0.3, 0.5), (0.39, 0.5))
    assert not is_left_of((0.41, 0.5), (0.3, 0.5))
    assert is_left_of((0.3, 0.5), (0.5, 0.69))
    assert not is_left_of((0.3, 0.5), (0.5, 0.71))
    assert not is_left_of((0.3, 0.5), (0.5, 0.29))


def test_above_is_beside_on_its_side():
    assert is_above((0.5, 0.3), (0.5, 0.41))
    assert not is_above((0.5, 0.3), (0.5, 0.39))
    assert not is_above((0.5, 0.41), (0.5, 0.3))
    assert is_above((0.5, 0.3), (0.69, 0.5))
    assert not is_above((0.5, 0.3), (0.71, 0.5))
    assert not is_above((0.5, 0.3), (0.29, 0.5))


def test_between_is_near_the_line_and_in_its_middle():
    ends = (0.0, 0.0), (1.0, 0.0)
    assert all(is_between((x, y), *ends) for x in (0.2, 0.5, 0.8) for y in (-0.3, 0.0, 0.3))
    assert not any(is_between(a, *ends) for a in ((0.1, 0.0), (0.9, 0.0), (0.5, 0.4), (0.5, -0.4), (-0.5, 0.0)))
    assert not is_between((0.0, 0.0), (0.0, 0.0), (0.01, 0.0))


def test_relations_are_measured_in_the_shape_of_the_frame():
    objects = SeenObject("car", "", 0.4, 0.3, 0.2), SeenObject("dog", "", 0.6, 0.55, 0.2)
    beside = Labels((RequestedObject("car"), RequestedObject("dog")), ((0, "left of", 1),))
    assert passes_all_checks(ImageReading(SceneReading("sea", "3d", objects), None, (128, 224)), beside)
    assert not passes_all_checks(ImageReading(SceneReading("sea", "3d", objects), None, (128, 128)), beside)
    assert not passes_all_checks(ImageReading(SceneReading("sea", "3d", objects), None, (224, 128)), beside)
    level = replace(objects[0], x=0.3), replace(objects[1], x=0.42, y=0.3)
    assert passes_all_checks(ImageReading(SceneReading("sea", "3d", level), None, (224, 128)), beside)


RED, BLUE = SeenObject("car", "red", 0.2, 0.5, 0.3), SeenObject("car", "blue", 0.8, 0.5, 0.3)
CARS = Labels((RequestedObject("car", 1, "red"), RequestedObject("car", 1, "blue")), ((0, "left of", 1),))


def test_things_of_one_name_are_told_apart_by_their_tints():
    assert passes_all_checks(ImageReading(SceneReading("sea", "3d", (RED, BLUE)), None, (64, 64)), CARS)
    swapped = replace(RED, x=0.8), replace(BLUE, x=0.2)
    assert failed(ImageReading(SceneReading("sea", "3d", swapped), None, (64, 64)), CARS) == {"relations"}
    same = RED, replace(BLUE, tint="red")
    assert "tints" in failed(ImageReading(SceneReading("sea", "3d", same), None, (64, 64)), CARS)


def test_groups_are_where_their_middle_is():
    apart = (
        SeenObject("dog", "", 0.2, 0.5, 0.2),
        SeenObject("dog", "", 0.6, 0.5, 0.2),
        SeenObject("car", "", 0.55, 0.5, 0.2),
    )
    wanted = Labels((RequestedObject("dog", 2), RequestedObject("car")), ((0, "left of", 1),))
    assert passes_all_checks(ImageReading(SceneReading("sea", "3d", apart), None, (64, 64)), wanted)
    assert passes_all_checks(
        ImageReading(SceneReading("sea", "3d", apart), None, (64, 64)), replace(wanted, relations=((1, "right of", 0),))
    )
