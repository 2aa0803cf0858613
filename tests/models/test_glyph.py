"""The glyph encoder beside T5: what a system must hold together, and bytes that are not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.models.build import build_models
from dalle3_jax.models.glyph import check_glyphs, text_components
from dalle3_jax.models.t5 import T5Encoder, word_places
from dalle3_jax.models.xfnet import XFNet
from tests.networks import randomised

TEXT = {"vocab_size": 30, "width": 8, "layers": 1, "heads": 2, "head_size": 4, "mlp_width": 12}
GLYPHS = {**TEXT, "vocab_size": 259, "width": 6}
XFNET = {"kind": "linear", "width": 8, "vector_width": 3, "heads": 2}


def system(encoder: bool, joins: bool, vocab_size: int = 259):
    sections = {"glyph_encoder": {**GLYPHS, "vocab_size": vocab_size}} if encoder else {}
    return build_models({**sections, "text_encoder": TEXT, "xfnet": {**XFNET, "glyphs": joins}})


def test_all_or_nothing_is_a_system():
    check_glyphs(system(True, True), 12)
    check_glyphs(system(False, False), 0)


@pytest.mark.parametrize(
    ("encoder", "joins", "length", "message"),
    [
        (True, False, 0, "has a glyph_encoder but not xfnet.glyphs and a glyph_length above 0"),
        (False, True, 0, "has xfnet.glyphs but not a glyph_encoder and a glyph_length above 0"),
        (False, False, 12, "has a glyph_length above 0 but not a glyph_encoder and xfnet.glyphs"),
        (True, True, 0, "has a glyph_encoder and xfnet.glyphs but not a glyph_length above 0"),
        (True, False, 12, "has a glyph_encoder and a glyph_length above 0 but not xfnet.glyphs"),
        (False, True, 12, "has xfnet.glyphs and a glyph_length above 0 but not a glyph_encoder"),
    ],
)
def test_a_part_without_the_others_is_refused(encoder, joins, length, message):
    with pytest.raises(ValueError, match=f"{message}: quoted text needs all three, or none"):
        check_glyphs(system(encoder, joins), length)


def test_an_encoder_with_too_few_rows_is_refused():
    with pytest.raises(ValueError, match="vocab_size is 258, the ids of bytes go up to 258: set it to at least 259"):
        check_glyphs(system(True, True, vocab_size=258), 12)


def test_the_text_side_is_what_is_there():
    assert text_components(system(True, True)) == ("text_encoder", "glyph_encoder", "xfnet")
    assert text_components(system(False, False)) == ("text_encoder", "xfnet")


def test_each_projection_takes_its_own_encoder():
    kernels = {name: p["kernel"].value.shape for name, p in xfnet_tree(True).items() if name.startswith("project")}
    assert kernels == {"project_in": (8, 8), "project_glyphs": (6, 8)}


def test_without_the_switch_the_tree_is_as_it_was():
    with_glyphs, without = xfnet_tree(True), xfnet_tree(False)
    del with_glyphs["project_glyphs"]
    assert jax.tree.map(jnp.shape, with_glyphs) == jax.tree.map(jnp.shape, without)


def xfnet_tree(glyphs: bool) -> dict:
    return dict(abstract_params(system(glyphs, glyphs))["xfnet"])


def test_xfnet_without_its_encoder_is_named():
    with pytest.raises(ValueError, match="takes its input from glyph_encoder, which the system lacks"):
        abstract_params(system(False, True))


def test_no_bytes_at_all_give_finite_features_and_gradients():
    ids, mask = jnp.array([[68, 1, 0, 0], [0, 0, 0, 0]]), jnp.arange(4)[None] < jnp.array([[2], [0]])
    encoder, xfnet = T5Encoder(**GLYPHS), XFNet("linear", 8, 3, heads=2, glyphs=True)
    text = jnp.ones((2, 3, 8)), jnp.ones((2, 3), bool)
    params = randomised(encoder, ids, mask), randomised(xfnet, *text, (jnp.zeros((2, 4, 6)), mask))

    def told(params, row):
        letters = encoder.apply({"params": params[0]}, ids, mask)
        return jnp.sum(xfnet.apply({"params": params[1]}, *text, (letters, mask)).vector[row])

    jitted = jax.jit(jax.value_and_grad(told))
    values, gradients = zip(*(jitted(params, row) for row in (0, 1)), strict=True)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((values, gradients)))
    some, none = (tree[0]["token_embedding"]["embedding"] for tree in gradients)
    assert jnp.abs(some[68]).max() > 1e-5
    np.testing.assert_array_equal(some[0], 0.0)  # padding teaches nothing
    np.testing.assert_array_equal(none, 0.0)


def test_a_byte_knows_its_place_in_its_word_from_both_ends():
    ids = jnp.array([[70, 71, 72, 1, 80, 1, 0, 0], [90, 1, 70, 71, 72, 73, 74, 75]])
    start, end = jax.jit(word_places)(ids)
    np.testing.assert_array_equal(start, [[0, 1, 2, 3, 0, 1, 0, 1], [0, 1, 0, 1, 2, 3, 4, 5]])
    np.testing.assert_array_equal(end, [[3, 2, 1, 0, 1, 0, 1, 0], [1, 0, 5, 4, 3, 2, 1, 0]])
    encoder, mask = T5Encoder(**GLYPHS, word_positions=3), ids != 0
    params = randomised(encoder, ids, mask)
    changed = {**params, "from_end": {"embedding": params["from_end"]["embedding"].at[2].add(1.0)}}
    one, other = (np.asarray(encoder.apply({"params": tree}, ids, mask)) for tree in (params, changed))
    assert (one != other)[mask].any()
    plain = T5Encoder(**GLYPHS)
    assert set(params) - set(randomised(plain, ids, mask)) == {"from_start", "from_end"}
