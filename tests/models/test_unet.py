"""The UNet: sizes, conditioning inputs, masks, compute dtype and remat."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.unet_call import apply_unet, apply_unet_with_features, project_condition, whole_image_sizes
from dalle3_jax.nn.layers import guidance_sinusoids
from tests.networks import abstract, apply, condition, normal, randomised, spoiled

UNET = UNet(levels=(Level(8, 1), Level(12, 1, depth=1, heads=2)), groups=4, size_ids=2)
X, T, SIZES = normal(2, 5, 7, 4), jnp.array([3.0, 700.0]), jnp.array([[64.0, 32.0], [128.0, 0.0]])
CONDITION = condition()


@functools.cache
def random_params():
    return randomised(UNET, X, T, CONDITION, SIZES)


def forward(params, x=X, t=T, condition=CONDITION, sizes=SIZES):
    """One program, whichever arguments are given: to `jax.jit` those left out would be another."""
    return apply(UNET, params, x, t, condition, sizes)


def test_first_guess_is_zero():
    """Whatever the other layers give the last one: only that one's initial parameters are computed here."""
    last = jax.jit(lambda: nn.unbox(UNET.init(jax.random.key(0), X, T, CONDITION, SIZES)["params"])["conv_out"])()
    np.testing.assert_array_equal(forward(random_params() | {"conv_out": last}), 0.0)


@functools.cache
def unet_of(levels):
    """A UNet of so many levels, and its parameters as shapes."""
    unet = UNet(levels=tuple(Level(4 * (i + 1), 1, heads=2) for i in range(levels)), out_channels=5, groups=2)
    return unet, nn.unbox(abstract(unet, jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), condition(1)))


@pytest.mark.parametrize("levels", range(1, 5))
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (9, 16), (13, 6)])
def test_any_latent_size_is_kept(size, levels):
    unet, params = unet_of(levels)
    x = jnp.zeros((1, *size, 4))
    out = jax.eval_shape(lambda params: unet.apply({"params": params}, x, jnp.zeros(1), condition(1)), params)
    assert out.shape == (1, *size, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"x": X + 1},
        {"t": T + 40},
        {"sizes": SIZES + 5},
        {"condition": CONDITION._replace(tokens=CONDITION.tokens + 1)},
        {"condition": CONDITION._replace(vector=CONDITION.vector + 1)},
        {"condition": CONDITION._replace(mask=jnp.ones_like(CONDITION.mask))},
    ],
    ids=["x", "t", "sizes", "tokens", "vector", "mask"],
)
def test_every_input_matters(change):
    assert jnp.abs(forward(random_params(), **change) - forward(random_params()))[1].max() > 1e-3


def test_masked_tokens_have_no_influence():
    other = CONDITION._replace(tokens=spoiled(CONDITION.tokens, CONDITION.mask))
    np.testing.assert_array_equal(forward(random_params(), condition=other), forward(random_params()))


def test_projected_text_gives_the_same_output_and_is_all_that_it_reads_of_the_text():
    """Both attentions of a level are to the text alone, the middle attends to the image too; tokens lie on a grid."""
    levels = (Level(8, 1, depth=2, heads=2, self_attend=False), Level(12, 1, heads=2))
    unet = UNET.clone(levels=levels, qk_norm=True, grid=(5, 1))
    params = randomised(unet, X, T, CONDITION, SIZES)

    def reads_text(path):
        names = {part.key for part in path}
        return "cross_attention" in names or ("self_attention" in names and path[0].key != "middle_transformer")

    def blind(path, leaf):
        lies_on_grid = path[0].key in ("grid_0", "grid_1")
        keys = reads_text(path) and {part.key for part in path} & {"key", "value"}
        return 0 * leaf if lies_on_grid or keys else leaf

    @jax.jit
    def run(params):
        rows = project_condition(unet, params, CONDITION)
        unread = jax.tree_util.tree_map_with_path(blind, params)
        whole = unet.apply({"params": params}, X, T, CONDITION, SIZES)
        return whole, unet.apply({"params": unread}, X, T, rows, SIZES)

    whole, projected = run(params)
    assert jnp.abs(whole).max() > 0.1
    np.testing.assert_allclose(projected, whole, atol=1e-5)


def test_kept_features_stand_for_what_they_were_kept_of():
    """The last layer on deep features, and transformers on what the text added, give the output that they are of."""
    unet = UNET.clone(size_ids=6)
    params = randomised(unet, X, T, CONDITION, jnp.ones((2, 6)))

    @jax.jit
    def run(params):
        rows = project_condition(unet, params, CONDITION)
        whole, deep, text = apply_unet_with_features(unet, params, X, T, rows, factor=8)
        frozen = {name: {"cross_attention": added} for name, added in text.items()}
        frozen = rows._replace(keys=frozen, mask=jnp.zeros_like(rows.mask))  # which nothing reads then
        shallow = apply_unet(unet, params, X, T, rows, deep=deep, factor=8)
        other = apply_unet(unet, params, X, T, rows, deep=deep + 1, factor=8)
        plain, alone = (apply_unet(unet, params, X, T, condition, factor=8) for condition in (CONDITION, frozen))
        return plain, whole, shallow, alone, other

    plain, *same, other = run(params)
    for output in same:
        np.testing.assert_allclose(output, plain, atol=1e-5)
    assert jnp.abs(other - plain).max() > 1e-2


def test_text_of_another_width_is_not_projected():
    with pytest.raises(ValueError, match="tokens of 9, not 6"):
        project_condition(UNET.clone(context_width=9), random_params(), CONDITION)


def test_rows_do_not_see_each_other():
    swapped = forward(random_params(), X[::-1], T[::-1], jax.tree.map(lambda a: a[::-1], CONDITION), SIZES[::-1])
    np.testing.assert_allclose(swapped[::-1], forward(random_params()), atol=1e-5)


@pytest.mark.parametrize("sizes", [None, jnp.zeros((2, 3))])
def test_size_ids_are_required_when_configured(sizes):
    with pytest.raises(ValueError, match="2 size ids"):
        abstract(UNET, X, T, CONDITION, sizes)


def test_size_ids_of_whole_images_name_no_crop():
    np.testing.assert_array_equal(whole_image_sizes(2, 64, 96), [[64, 96, 0, 0, 64, 96]] * 2)


SEEN = []


class Recorder(UNet):
    """A UNet that keeps the sizes that it is given, and returns x."""

    @nn.compact
    def __call__(self, x, t, condition, sizes=None, noise_level=None, guidance=None, deep=None):
        SEEN.append(sizes)
        return x


@pytest.mark.parametrize(
    ("size_ids", "given", "wanted"),
    [
        (6, None, [[40, 56, 0, 0, 40, 56]] * 2),  # whole images of 5 x 7 latents of 8 pixels
        (6, jnp.full((2, 6), 3.0), [[3] * 6] * 2),
        (0, jnp.full((2, 6), 3.0), None),
    ],
)
def test_a_unet_is_given_the_sizes_that_it_takes(size_ids, given, wanted):
    SEEN.clear()
    apply_unet(Recorder(UNET.levels, size_ids=size_ids), {}, X, T, CONDITION, given, factor=8)
    assert (SEEN[0] is None) == (wanted is None)
    if wanted is not None:
        np.testing.assert_array_equal(SEEN[0], wanted)


def test_without_pooling_or_size_ids_there_is_no_condition_embedding():
    assert "condition_embedding" in abstract(UNET.clone(size_ids=0), X, T, CONDITION)
    assert "condition_embedding" not in abstract(UNET.clone(size_ids=0, pooled=False), X, T, CONDITION)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="12 channels is not a multiple of its 5 heads"):
        abstract(UNET.clone(levels=(Level(8, 1), Level(12, 1, 1, 5))), X, T, CONDITION, SIZES)


def test_scale_shift_is_in_every_norm_of_every_block_and_nothing_is_added():
    blocks = {name: tree for name, tree in abstract(UNET, X, T, CONDITION, SIZES).items() if "block" in name}
    assert len(blocks) == 1 + 1 + 2 + 2 + 2
    for tree in blocks.values():
        assert set(tree["norm_1"]) == set(tree["norm_2"]) == {"modulation"}
        assert "embedding" not in tree


def test_remat_gives_equal_values_and_gradients():
    unet = UNET.clone(levels=(Level(8, 1, depth=1, heads=2),))
    params = randomised(unet, X, T, CONDITION, SIZES)

    def loss(unet):
        return jax.jit(jax.value_and_grad(lambda p: jnp.mean(unet.apply({"params": p}, X, T, CONDITION, SIZES) ** 2)))

    plain, remat = loss(unet)(params), loss(unet.clone(remat=True))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain, remat)


def test_bfloat16_is_close_and_returns_float32():
    exact = forward(random_params())
    rounded = jax.jit(UNET.clone(dtype=jnp.bfloat16).apply)({"params": random_params()}, X, T, CONDITION, SIZES)
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.abs(rounded - exact).max() < 0.05 * jnp.abs(exact).max()


def test_a_guidance_scale_changes_nothing_before_training_and_everything_after():
    unet = UNET.clone(guidance_width=8)
    inputs = X, T, CONDITION, SIZES, None, jnp.ones(2)
    projection = jax.jit(lambda: nn.unbox(unet.init(jax.random.key(0), *inputs)["params"])["guidance_projection"])()
    student = random_params() | {"guidance_projection": projection}
    run = jax.jit(lambda params, scale: unet.apply({"params": params}, X, T, CONDITION, SIZES, None, scale))
    np.testing.assert_allclose(run(student, jnp.array([1.0, 4.0])), forward(random_params()), atol=1e-6)
    student["guidance_projection"] = jax.tree.map(lambda kernel: kernel + 0.1, projection)
    apart = jnp.abs(run(student, jnp.array([1.0, 4.0])) - run(student, jnp.array([1.0, 3.0]))).max((1, 2, 3))
    assert apart[0] == 0
    assert apart[1] > 1e-3
    with pytest.raises(ValueError, match="conditioned on the guidance scale"):
        abstract(unet, X, T, CONDITION, SIZES)


def test_the_embedding_of_a_guidance_scale_is_that_of_latent_consistency_models():
    scale = jnp.array([1.0, 4.5])
    frequencies = np.exp(-np.log(10_000) / 3 * np.arange(4))  # get_guidance_scale_embedding of diffusers
    angles = 1000 * (np.asarray(scale) - 1)[:, None] * frequencies
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(guidance_sinusoids(scale, 8), expected, atol=1e-3)
