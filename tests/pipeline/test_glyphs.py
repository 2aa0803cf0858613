"""A release with a glyph encoder: what it reads of a prompt, and what it refuses."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.revision import truncation_notices
from tests.tiny import SECTIONS, randomised, tiny_release

LENGTH, GLYPHS = 24, 8


@pytest.fixture(scope="module")
def release() -> Release:
    """The tiny release with eyes for quoted text."""
    encoder = {**SECTIONS["text_encoder"], "vocab_size": 259, "width": 8}
    modules = build_models({**SECTIONS, "glyph_encoder": encoder, "xfnet": {**SECTIONS["xfnet"], "glyphs": True}})
    new = {name: randomised(modules[name], modules, seed=9) for name in ("glyph_encoder", "xfnet")}
    base = tiny_release()
    text = {"length": LENGTH, "glyph_length": GLYPHS}
    return dataclasses.replace(base, modules=modules, params={**base.params, **new}, text=text)


@pytest.fixture(scope="module")
def reading(release, tmp_path_factory) -> Pipeline:
    """Its pipeline, from disk."""
    folder = tmp_path_factory.mktemp("glyphs") / "release"
    save_release(folder, release)
    return Pipeline.load(folder)


def test_the_condition_is_what_the_networks_say(release, reading):
    """Bytes by hand: H is 72, i is 105; ids are 3 more, 1 ends the word, 0 pads."""
    prompt = 'a "Hi" sign'

    def apply(name, *inputs):
        return release.modules[name].apply({"params": release.params[name]}, *inputs)

    ids, mask = map(jnp.asarray, reading.tokenizer([prompt], LENGTH))
    glyph_ids = jnp.array([[75, 108, 1, 0, 0, 0, 0, 0]])
    letters = apply("glyph_encoder", glyph_ids, glyph_ids > 0), glyph_ids > 0
    expected = apply("xfnet", apply("text_encoder", ids, mask), mask, letters)
    for ours, theirs in zip(reading.encode([prompt]), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_only_prompts_that_quote_have_glyphs(reading):
    mask = reading.encode(["", 'a "Hi" sign', "a Hi sign"]).mask
    assert mask.shape == (3, LENGTH + GLYPHS)
    assert mask[:, LENGTH:].sum(1).tolist() == [0, 3, 0]


def test_a_quote_of_the_negative_prompt_counts_too(reading):
    pictures = [
        np.asarray(reading("a fox", negative_prompt=prompt, steps=2, batch_size=1)[0].image, int)
        for prompt in ('"no"', '"on"')
    ]
    assert (pictures[0] != pictures[1]).any()


def test_quoted_text_that_is_cut_is_told(reading):
    short, long = reading.request('"1234567"'), reading.request('a "sign"', negative_prompt='"12345678"')
    assert truncation_notices([short], reading.release.text, reading.tokenizer) == []
    [notice] = truncation_notices([short, long], reading.release.text, reading.tokenizer)
    assert "the quoted text of the prompt '\"12345678\"' has 9 bytes; this model reads the first 8" in notice


def test_a_release_that_lacks_a_part_of_it_is_refused(release):
    for text in ({"length": LENGTH}, {"length": LENGTH, "glyph_length": 0}):
        with pytest.raises(ValueError, match="but not a glyph_length above 0"):
            Pipeline(dataclasses.replace(release, text=text))
    base = tiny_release()
    with pytest.raises(ValueError, match="above 0 but not a glyph_encoder and xfnet"):
        Pipeline(dataclasses.replace(base, text=release.text))
