"""CoCa: a token sees what stands before it and the picture; step by step as at once; what vectors depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.captioner import Captioner, empty_cache
from dalle3_jax.models.clip import Tower
from dalle3_jax.nn.layers import grid_sinusoids
from tests.networks import count, normal, randomised

CAPTIONER = Captioner(
    Tower(16, 2, 2, 32, "gelu"),
    Tower(12, 2, 3, 24, "gelu"),
    Tower(12, 2, 2, 24, "gelu"),
    vocab_size=20,
    positions=7,
    image_size=(16, 8),
    patch=4,
    projection=8,
    queries=3,
    pooling_heads=2,
)
IDS = jnp.asarray([[0, 3, 4, 5, 6, 7, 8], [0, 3, 9, 2, 2, 2, 2]])
MASK = jnp.arange(7)[None] < jnp.array([7, 3])[:, None]
IMAGES = normal(2, 16, 8, 3)
MODULES = {"pooled": CAPTIONER, "patches": CAPTIONER.clone(queries=0)}
MODULES["placed"] = MODULES["patches"].clone(patch_positions=0.5, token_positions=0.5)


@functools.cache
def random_params():
    return {name: randomised(module, IDS, MASK, IMAGES) for name, module in MODULES.items()}


@functools.partial(jax.jit, static_argnames=("name", "method"))
def apply(*args, name="pooled", method=None):
    return MODULES[name].apply({"params": random_params()[name]}, *args, method=method)


@pytest.mark.parametrize("name", MODULES)
def test_step_by_step_is_all_at_once(name):
    whole = apply(IDS, MASK, IMAGES, name=name).logits
    cache, found = empty_cache(MODULES[name], 2), []
    for t in range(7):
        images = (IMAGES,) if t == 0 else ()
        logits, cache = apply(IDS[:, t], jnp.full(2, t), cache, *images, name=name, method="step")
        found.append(logits)
    np.testing.assert_allclose(np.stack(found, 1)[MASK], whole[MASK], atol=2e-5)


def test_fixed_positions_tell_alike_patches_apart_and_add_no_parameters():
    params = dict(random_params()["patches"])
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, random_params()["placed"])
    tower = dict(params["image_tower"])
    tower["position_embedding"] = jax.tree.map(jnp.zeros_like, tower["position_embedding"])  # as weak as they begin
    blank = jnp.full((1, 16, 8, 3), 0.3)  # eight patches that are the same

    def features(**fields):
        module = MODULES["patches"].clone(**fields)
        weights = {"params": params | {"image_tower": tower}}
        return jax.jit(lambda images: module.apply(weights, images, method=lambda m, x: m.image_tower(x)))(blank)

    plain, patches, tokens = features(), features(patch_positions=0.5), features(token_positions=0.5)
    np.testing.assert_allclose(plain.tokens, jnp.broadcast_to(plain.tokens[:, :1], plain.tokens.shape), atol=1e-6)
    gaps = jnp.abs(patches.tokens[0, :, None] - patches.tokens[0]).max(-1)
    assert gaps[~jnp.eye(8, dtype=bool)].min() > 1e-2
    np.testing.assert_allclose(tokens.tokens - plain.tokens, 0.5 * grid_sinusoids(4, 2, 16)[None], atol=1e-6)
    np.testing.assert_array_equal(tokens.vector, plain.vector)


def test_positions_of_learned_queries_are_refused():
    with pytest.raises(ValueError, match="token_positions with 3 queries"):
        CAPTIONER.clone(token_positions=1.0).init(jax.random.key(0), IDS, MASK, IMAGES)


def test_rows_may_stand_at_different_tokens():
    ahead, _ = apply(IDS[:1, 0], jnp.zeros(1, int), empty_cache(CAPTIONER, 1), IMAGES[:1], method="step")
    cache = empty_cache(CAPTIONER, 2)
    _, cache = apply(IDS[:, 0], jnp.zeros(2, int), cache, IMAGES, method="step")
    later, _ = apply(IDS[:, 1], jnp.array([1, 1]), cache, method="step")
    both, _ = apply(jnp.array([IDS[0, 0], IDS[1, 1]]), jnp.array([0, 1]), cache, method="step")
    np.testing.assert_allclose(both[0], ahead[0], atol=2e-5)
    np.testing.assert_allclose(both[1], later[1], atol=2e-5)


def test_a_token_sees_nothing_behind_it_but_the_picture():
    seen, after = apply(IDS, MASK, IMAGES).logits, apply(IDS.at[:, 4].set(11), MASK, IMAGES).logits
    np.testing.assert_array_equal(seen[:, :4], after[:, :4])
    assert jnp.abs(seen - after)[0, 4:].max(-1).min() > 1e-3
    other = apply(IDS, MASK, IMAGES[::-1]).logits
    assert jnp.abs(seen - other).max(-1).min() > 1e-3


def test_padding_changes_neither_a_texts_vector_nor_the_logits_of_its_tokens():
    seen, spoilt = apply(IDS, MASK, IMAGES), apply(jnp.where(MASK, IDS, 13), MASK, IMAGES)
    np.testing.assert_allclose(seen.texts, spoilt.texts, atol=1e-6)
    np.testing.assert_allclose(seen.logits[MASK], spoilt.logits[MASK], atol=1e-6)
    assert jnp.abs(seen.texts - apply(IDS, jnp.ones_like(MASK), IMAGES).texts)[1].max() > 1e-3


def test_a_texts_vector_depends_on_every_token_of_it():
    seen = apply(IDS, MASK, IMAGES).texts
    for place in range(7):
        assert jnp.abs(seen - apply(IDS.at[0, place].add(5), MASK, IMAGES).texts)[0].max() > 1e-4


def test_vectors_have_length_one_and_come_alone_too():
    seen = apply(IDS, MASK, IMAGES)
    np.testing.assert_allclose(np.linalg.norm(seen.images, axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(seen.images, apply(IMAGES, method="encode_image"))
    np.testing.assert_array_equal(seen.texts, apply(IDS, MASK, method="encode_text"))


def test_the_parameters_of_cocas_base_size_are_openclips():
    """253,560,065 of them, counted with open_clip 3.3.0 (coca_ViT-B-32)."""
    text = Tower(512, 12, 8, 2048, "gelu")
    base = Captioner(Tower(768, 12, 12, 3072, "gelu"), text, text, vocab_size=49408, positions=76, start_id=None)
    ids = jnp.zeros((1, 76), int)
    assert count(base, ids, ids > 0, jnp.zeros((1, 224, 224, 3))) == 253_560_065


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"\(8, 8\): this captioner takes \(16, 8\), resize"):
        apply(IDS, MASK, IMAGES[:, :8])
    with pytest.raises(ValueError, match="8 tokens exceeds the 7 positions"):
        apply(jnp.zeros((1, 8), int), jnp.ones((1, 8), bool), IMAGES[:1])
    with pytest.raises(ValueError, match="make them one"):
        CAPTIONER.clone(decoder=Tower(16, 1, 2, 8)).init(jax.random.key(0), IDS, MASK, IMAGES)
