"""Text to condition, for training and for sampling, with modules of one line in place of networks."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.condition import Condition, encode_text
from dalle3_jax.models.xfnet import XFNet

BATCH = {"ids": jnp.full((2, 3), 3), "mask": jnp.asarray([[True, True, False]] * 2)}
GLYPHS = {"glyph_ids": jnp.full((2, 4), 5), "glyph_mask": jnp.asarray([[True, False, False, False]] * 2)}


class Function(nn.Module):
    """function(weight, *inputs) as a network with one weight."""

    function: Callable[..., Any]

    @nn.compact
    def __call__(self, *inputs):
        return self.function(self.get_variable("params", "weight"), *inputs)


def encode(functions, batch, **weights):
    modules = {name: Function(function) for name, function in functions.items()}
    return encode_text(modules, {name: {"weight": weight} for name, weight in weights.items()}, batch)


def features(weight, ids, mask):
    return weight * ids[..., None].astype(jnp.float32)


def adapter(weight, features, mask, glyphs=None):
    tokens, kept = weight * features, mask
    if glyphs is not None:
        tokens = jnp.concatenate([tokens, glyphs[0]], axis=1)
        kept = jnp.concatenate([mask, glyphs[1]], axis=1)
    return Condition(tokens, kept, tokens[:, 0])


def test_features_go_through_the_adapter():
    condition = encode({"text_encoder": features, "xfnet": adapter}, BATCH, text_encoder=2.0, xfnet=10.0)
    np.testing.assert_array_equal(condition.tokens[..., 0], 60.0)
    np.testing.assert_array_equal(condition.mask, BATCH["mask"])


def test_features_that_a_batch_holds_need_no_text_encoder():
    batch = {"features": jnp.full((2, 3, 1), 7.0), "mask": BATCH["mask"]}
    condition = encode({"xfnet": adapter}, batch, xfnet=10.0)
    np.testing.assert_array_equal(condition.tokens[..., 0], 70.0)


def test_quoted_text_reaches_the_condition_through_its_own_encoder():
    functions = {"text_encoder": features, "glyph_encoder": features, "xfnet": adapter}
    condition = encode(functions, BATCH | GLYPHS, text_encoder=1.0, glyph_encoder=7.0, xfnet=1.0)
    np.testing.assert_array_equal(condition.tokens[..., 0], [[3.0] * 3 + [35.0] * 4] * 2)
    np.testing.assert_array_equal(condition.mask[:, 3:], GLYPHS["glyph_mask"])


def test_an_adapter_of_glyphs_without_any_says_so():
    modules = {"text_encoder": Function(features), "glyph_encoder": Function(features)}
    modules["xfnet"] = XFNet("linear", 8, 3, heads=2, glyphs=True)
    params = {"text_encoder": {"weight": 1.0}, "xfnet": {}}
    with pytest.raises(ValueError, match=r"xfnet.glyphs is True: give the features of quoted text"):
        encode_text(modules, params, BATCH)


def clip(width: int):
    """A text encoder that gives a condition by itself: its weight, in every feature of every token."""

    def encode(weight, ids, mask):
        vector = jnp.full((len(ids), width), weight)
        return Condition(jnp.full((*ids.shape, width), weight), jnp.ones_like(mask), vector)

    return encode


def test_a_text_encoder_that_gives_a_condition_needs_no_xfnet():
    condition = encode({"text_encoder": clip(4)}, BATCH, text_encoder=1.0)
    assert condition.tokens.shape == (2, 3, 4)
    assert condition.mask.all()  # padding counts too


def test_two_text_encoders_stand_beside_each_other_and_the_vector_is_the_second_s():
    functions = {"text_encoder": clip(4), "text_encoder_2": clip(5)}
    condition = encode(functions, BATCH, text_encoder=1.0, text_encoder_2=2.0)
    np.testing.assert_array_equal(condition.tokens[0, 0], [1.0] * 4 + [2.0] * 5)
    np.testing.assert_array_equal(condition.vector, np.full((2, 5), 2.0))
