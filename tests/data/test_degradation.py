"""Low-resolution images: pure functions of their keys, each kernel and artefact at its share, bad settings named."""

import numpy as np
import pytest

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.degradation import KERNELS, degradation_errors, degrade_image
from dalle3_jax.data.settings import resolve_settings
from dalle3_jax.data.transforms import normalise_pixels

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (32, 48, 3), np.uint8)
PLAIN = {"factor": 2, "blurred": 0.0, "compressed": 0.0, "kernels": ("box",)}


def test_a_box_is_the_mean_of_its_pixels():
    means = PIXELS.reshape(16, 2, 24, 2, 3).mean(axis=(1, 3))
    assert abs(degrade_image(PIXELS, PLAIN, (0,)) - means).max() <= 1.0  # rounded once for each axis


@pytest.mark.parametrize("factor", [2, 4])
def test_sides_shrink_by_the_factor_and_the_key_decides_all(factor):
    one, again, other = (degrade_image(PIXELS, {"factor": factor}, (7, index)) for index in (1, 1, 2))
    assert one.shape == (32 // factor, 48 // factor, 3)
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_every_kernel_is_drawn_and_none_but_those_that_are_named():
    wanted = [degrade_image(PIXELS, PLAIN | {"kernels": (kernel,)}, (0,)).tobytes() for kernel in KERNELS]
    drawn = [degrade_image(PIXELS, PLAIN | {"kernels": tuple(KERNELS)}, (i,)).tobytes() for i in range(60)]
    assert len(set(wanted)) == len(KERNELS)
    assert set(drawn) == set(wanted)
    assert min(drawn.count(image) for image in wanted) > 8


@pytest.mark.parametrize("change", [{"blurred": 0.5, "blur": 2.0}, {"compressed": 0.5, "quality": (10, 20)}])
def test_blur_and_jpeg_come_to_their_share_of_the_images(change):
    clean = degrade_image(PIXELS, PLAIN, (0,))
    changed = [(degrade_image(PIXELS, PLAIN | change, (i,)) != clean).any() for i in range(60)]
    assert 15 < sum(changed) < 45


def test_blur_takes_detail_and_a_worse_jpeg_is_further_off():
    clean = degrade_image(PIXELS, PLAIN, (0,)).astype(float)
    blurred = [degrade_image(PIXELS, PLAIN | {"blurred": 1.0, "blur": 2.0}, (i,)).astype(float) for i in range(8)]
    assert np.mean([image.std() for image in blurred]) < 0.7 * clean.std()
    errors = [
        abs(degrade_image(PIXELS, PLAIN | {"compressed": 1.0, "quality": (q, q)}, (0,)) - clean).mean()
        for q in (20, 95)
    ]
    assert errors[0] > errors[1] > 0


def test_a_batch_has_the_low_images_of_its_own_crops():
    data = {"size": (32, 32), "crop": 16, "text_length": 8, "degradation": PLAIN}
    batch = next(make_batches(data, tokenize=None, batch_size=3, seed=0))
    assert batch["images"].shape == (3, 16, 16, 3)
    pixels = np.rint(batch["images"] * 127.5 + 127.5).astype(np.uint8)
    low = np.stack([normalise_pixels(degrade_image(image, PLAIN, (0,))) for image in pixels])
    np.testing.assert_array_equal(batch["low_images"], low)
    assert "low_images" not in next(make_batches({**data, "degradation": {}}, tokenize=None, batch_size=1, seed=0))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"blur": 1.0}, "factor is None: use 2 or 4"),
        ({"factor": 3}, "factor is 3"),
        ({"factor": 2, "kernels": ("lanczos",)}, "kernels is ('lanczos',): use some of box, bilinear, bicubic"),
        ({"factor": 2, "kernels": ()}, "kernels is ()"),
        ({"factor": 2, "blurred": 1.5}, "blurred is 1.5: a share lies in [0, 1]"),
        ({"factor": 2, "compressed": True}, "compressed is True"),
        ({"factor": 2, "blur": -1}, "blur is -1"),
        ({"factor": 2, "quality": (90, 50)}, "quality is (90, 50)"),
        ({"factor": 2, "quality": (0, 50)}, "quality is (0, 50)"),
        ({"factor": 2, "jpeg": 1}, "it has jpeg: it may have factor, kernels"),
    ],
)
def test_bad_settings_are_named(settings, told):
    assert any(told in error for error in degradation_errors(settings))
    with pytest.raises(ValueError, match=r"data\.degradation"):
        resolve_settings({"degradation": settings})


def test_crops_that_the_factor_does_not_divide_are_refused():
    with pytest.raises(ValueError, match="a crop of 18 pixels is no multiple of the factor 4"):
        resolve_settings({"crop": 18, "degradation": {"factor": 4}})
    resolve_settings({"crop": 18, "degradation": {"factor": 2}})
    assert degradation_errors({}) == []
