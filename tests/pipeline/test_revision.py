"""Prompts that are revised because the release asks for it, and words that it has never seen."""

import dataclasses
import json
import warnings

import pytest
from PIL import Image

from dalle3_jax.loading.locate import DEMO
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.pipeline.revision import unknown_notes
from tests.tiny import tiny_release

SCENES = {"config": {"data": {"source": "scenes", "world": "first"}}}


def pipeline(length=200, training=SCENES, **sampling):
    release = tiny_release()
    text = {**release.text, "length": length}
    return Pipeline(dataclasses.replace(release, training=training, text=text, sampling=sampling))


def prompts_drawn(monkeypatch, made, *arguments, **settings):
    """The requests that a call makes, and its warnings; nothing is sampled."""

    def generate(_, requests, *__):
        image = Image.new("RGB", (8, 8))
        return iter((i, GeneratedImage(image, request, "digest", 1)) for i, request in enumerate(requests))

    monkeypatch.setattr("dalle3_jax.pipeline.pipeline.generate_images", generate)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        images = made(*arguments, **settings)
    return [image.request for image in images], [str(one.message) for one in said]


def test_a_release_that_asks_for_it_draws_the_revision_and_remembers_the_prompt(monkeypatch):
    made = pipeline(upsample="template")
    [first, second], said = prompts_drawn(monkeypatch, made, "a panda on a beach", n=2, seed=5)
    assert "panda" in first.prompt
    assert "beach" in first.prompt
    assert first.prompt != "a panda on a beach"
    assert (first.original_prompt, first.seed, second.seed) == ("a panda on a beach", 5, 6)
    assert second.prompt == first.prompt
    assert any("a panda on a beach" in note and first.prompt in note for note in said)


@pytest.mark.parametrize(("release", "call"), [({}, {}), ({"upsample": "template"}, {"upsample": "none"})])
def test_otherwise_a_prompt_is_drawn_as_it_is(monkeypatch, release, call):
    [request], said = prompts_drawn(monkeypatch, pipeline(**release), "a panda on a beach", **call)
    assert (request.prompt, request.original_prompt, said) == ("a panda on a beach", "", [])


def test_a_caller_may_ask_for_it(monkeypatch):
    [request], _ = prompts_drawn(monkeypatch, pipeline(), "a panda", upsample="template")
    assert request.original_prompt == "a panda"


def test_no_revision_is_kept_that_the_model_could_not_read(monkeypatch):
    made = pipeline(length=40, upsample="template")
    [request], _ = prompts_drawn(monkeypatch, made, "a panda on a beach")
    assert request.prompt == "a panda on a beach"
    assert made.can_read("x" * 39)
    assert not made.can_read("x" * 40)


def test_unknown_ways_are_refused():
    with pytest.raises(ValueError, match="'chat'"):
        pipeline(upsample="chat")
    with pytest.raises(ValueError, match="upsample is 'more'"):
        pipeline()("a panda", upsample="more")


def test_words_that_training_never_showed_are_named_once(monkeypatch):
    [request], said = prompts_drawn(monkeypatch, pipeline(), "a wizard on a beach")
    assert request.prompt == "a wizard on a beach"
    assert len(said) == 1
    assert "never seen" in said[0]
    assert "wizard" in said[0]
    assert unknown_notes(["a panda on a beach", "a panda on a beach"], SCENES) == []
    assert len(unknown_notes(["a wizard", "a wizard"], SCENES)) == 1
    assert unknown_notes(["a wizard"], {"config": {"data": {"source": "gs://photos"}}}) == []


@pytest.mark.parametrize(
    ("init", "notes"),
    [({"unet": "/weights/public"}, 0), ({"unet": "org/name"}, 0), ({"vae": "vae", "text_encoder": "text"}, 1)],
)
def test_words_that_weights_from_elsewhere_may_know_are_not_named(init, notes):
    begun = {**SCENES["config"], "init": init}
    assert len(unknown_notes(["a wizard"], {"config": begun})) == notes
    exported = {**begun, "init_digests": dict.fromkeys(init, "0")}
    assert len(unknown_notes(["a wizard"], {"config": exported})) == notes


def test_the_demo_names_what_it_has_never_seen():
    [note] = unknown_notes(["a cat beside a red apple"], json.loads((DEMO / "model.json").read_text())["training"])
    assert "cat" in note
