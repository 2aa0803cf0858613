"""The image prompt: what it adds to a UNet's attentions, and for which UNet it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.build import build_models, build_module, module_fields
from dalle3_jax.models.image_prompt import (
    ImageAttention,
    ImagePrompt,
    add_image_keys,
    fit_image_prompt,
    image_attentions,
    image_prompt_errors,
)
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.unet_call import apply_unet, project_condition
from dalle3_jax.nn.attention import KV, Attention, PromptedKV
from tests.networks import condition, normal, randomised

UNET = build_models(
    {
        "unet": {
            "levels": (
                {"channels": 8, "blocks": 1, "depth": 2, "heads": 2},
                {"channels": 8, "blocks": 1, "depth": 0, "heads": 4},
            ),
            "groups": 4,
            "context_width": 6,
            "vector_width": 3,
        }
    }
)["unet"]
PROMPT = ImagePrompt(image_attentions(UNET), features=5, width=6, tokens=3)


@pytest.fixture(scope="module")
def outputs():
    """outputs(prompt parameters, scale): the UNet's output with the image prompt, and without it (None)."""
    x, t, text = normal(2, 4, 4, 4), jnp.asarray([100.0, 700.0]), condition(2, 5, 6, 3)
    params = randomised(UNET, x, t, text)
    features = normal(2, 5, seed=3)

    @jax.jit
    def run(prompt, scale):
        rows = project_condition(UNET, params, text)
        if prompt is not None:
            rows = add_image_keys(rows, PROMPT.apply({"params": prompt}, features), scale)
        return apply_unet(UNET, params, x, t, rows, factor=8)

    return run


def test_a_new_image_prompt_changes_nothing(outputs):
    new = nn.unbox(jax.jit(PROMPT.init)(jax.random.key(0), normal(2, 5))["params"])
    np.testing.assert_array_equal(outputs(new, jnp.ones(2)), outputs(None, jnp.ones(2)))


def test_each_row_follows_its_image_as_its_scale_says(outputs):
    prompt = randomised(PROMPT, normal(2, 5))
    plain, mixed = outputs(None, jnp.ones(2)), outputs(prompt, jnp.asarray([0.0, 1.0]))
    np.testing.assert_array_equal(mixed[0], plain[0])
    assert float(jnp.abs(mixed[1] - plain[1]).max()) > 0.05


def test_what_is_found_in_the_image_is_added_to_what_is_found_in_the_text():
    attention = Attention(2, 4, out_bias=False)
    x, context = normal(2, 7, 8), normal(2, 5, 8, seed=1)
    params = randomised(attention, x, context)
    text, image = (KV(normal(2, m, 2, 4, seed=m), normal(2, m, 2, 4, seed=m + 1)) for m in (5, 3))
    mask, scale = jnp.arange(5)[None] < jnp.asarray([[5], [2]]), jnp.asarray([0.5, 2.0])

    def attend(keys, mask=None):
        return attention.apply({"params": params}, x, keys, mask)

    expected = attend(text, mask) + scale[:, None, None] * attend(image)
    np.testing.assert_allclose(attend(PromptedKV(text, image, scale), mask), expected, atol=1e-5)


def test_a_resampler_reads_features_in_any_order_and_number():
    prompt = dataclasses.replace(
        PROMPT, kind="resampler", layers=2, heads=2, head_size=4, inner=8, expansion=2, parent=None
    )
    features = normal(2, 9, 5)
    params = randomised(prompt, features)
    run = jax.jit(lambda features: prompt.apply({"params": params}, features))
    keys, turned, fewer = run(features), run(features[:, ::-1]), prompt.apply({"params": params}, features[:, :4])
    for name, own in keys.items():
        np.testing.assert_allclose(own.values, turned[name].values, atol=1e-5)
        assert fewer[name].values.shape == own.values.shape
        assert float(jnp.abs(own.values - fewer[name].values).max()) > 1e-3


def test_it_knows_every_cross_attention_of_its_unet():
    names = {at.place: (at.layers, at.heads, at.head_size) for at in PROMPT.attentions}
    assert names == {
        "down_0_0_transformer": (2, 2, 4),
        "up_0_0_transformer": (2, 2, 4),
        "up_0_1_transformer": (2, 2, 4),
        "middle_transformer": (1, 4, 2),
    }
    assert image_prompt_errors(PROMPT, UNET) == []


@pytest.mark.parametrize(
    ("attentions", "error"),
    [
        (PROMPT.attentions[1:], f"it has none for {PROMPT.attentions[0].place} (2 layers of 2 x 4)"),
        ((*PROMPT.attentions, ImageAttention("down_1_0_transformer", 1, 4, 2)), "one for down_1_0_transformer, which"),
        ((*PROMPT.attentions[:-1], dataclasses.replace(PROMPT.attentions[-1], heads=2)), "(1 layers of 4 x 2)"),
    ],
)
def test_one_for_another_unet_is_known(attentions, error):
    errors = image_prompt_errors(PROMPT.clone(attentions=attentions), UNET)
    assert error in "; ".join(errors)


def test_what_a_config_leaves_open_follows_from_the_system():
    tower = {"width": 8, "layers": 1, "heads": 2, "mlp_width": 8, "activation": "gelu"}
    sections = {
        "captioner": {
            **{part: tower for part in ("vision", "text", "decoder")},
            **{"vocab_size": 20, "positions": 8, "image_size": (8, 8), "patch": 4, "projection": 7, "queries": 2},
            "pooling_heads": 1,
        },
        "image_prompt": {"tokens": 2},
    }
    modules = {**build_models(sections), "unet": UNET}
    prompt = fit_image_prompt(modules["image_prompt"], modules)
    assert (prompt.features, prompt.width, prompt.tokens) == (7, 6, 2)
    assert prompt.attentions == image_attentions(UNET)
    assert build_module("image_prompt", module_fields(prompt)) == prompt
    with pytest.raises(ValueError, match="captioner, which the system lacks"):
        fit_image_prompt(prompt, {"unet": UNET})


def test_the_public_adapter_has_its_stated_size():
    """IP-Adapter for Stable Diffusion 1.5: 22 M parameters beside the UNet."""
    levels = [{"channels": c, "blocks": 2, "depth": 1, "heads": 8} for c in (320, 640, 1280)]
    levels.append({"channels": 1280, "blocks": 2, "depth": 0, "heads": 8})
    unet = build_models({"unet": {"levels": tuple(levels), "context_width": 768, "pooled": False}})["unet"]
    assert isinstance(unet, UNet)
    prompt = ImagePrompt(image_attentions(unet), 1024, 768)
    shapes = jax.eval_shape(prompt.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1024), jnp.float32))
    total = sum(leaf.size for leaf in jax.tree.leaves(nn.unbox(shapes)))
    # 5 of 320, 5 of 640, 6 of 1280 channels, twice; the projection of 1024 to 4 x 768, and a norm.
    assert total == 2 * 768 * (5 * 320 + 5 * 640 + 6 * 1280) + 1025 * 3072 + 2 * 768
