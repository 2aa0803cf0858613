"""Fidelity against closed forms and against the definitions written out for one window."""

import numpy as np
import pytest

from dalle3_jax.evaluation.decoders.fidelity import edge_error, psnr, ssim

RNG = np.random.default_rng(0)


def pictures(*levels: float, side: int = 16) -> np.ndarray:
    """One picture of each level."""
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])


def noise(count: int, side: int) -> np.ndarray:
    return RNG.integers(256, size=(count, side, side, 3), dtype=np.uint8)


def test_psnr_of_a_constant_error_is_known_picture_by_picture() -> None:
    found = psnr(pictures(105, 90), pictures(100, 100))
    np.testing.assert_allclose(found, [20 * np.log10(255 / 5), 20 * np.log10(255 / 10)])


def test_psnr_weighs_channels_alike_and_is_the_same_both_ways() -> None:
    images, truths = pictures(100), pictures(100)
    images[..., 2] += 30
    np.testing.assert_allclose(psnr(images, truths), 10 * np.log10(255**2 / (30**2 / 3)))
    np.testing.assert_allclose(psnr(images, truths), psnr(truths, images))


def test_psnr_of_the_same_picture_is_that_of_rounding() -> None:
    truths = noise(2, 16)
    np.testing.assert_allclose(psnr(truths, truths), 10 * np.log10(255**2 * 12))


def test_ssim_of_the_same_picture_is_one_and_of_its_negative_is_below_zero() -> None:
    truths = noise(2, 16)
    np.testing.assert_allclose(ssim(truths, truths), 1.0)
    assert (ssim(255 - truths, truths) < 0).all()


def test_ssim_of_flat_pictures_is_that_of_their_light() -> None:
    first = (0.01 * 255) ** 2
    wanted = [(2 * a * b + first) / (a * a + b * b + first) for a, b in ((50, 100), (200, 20))]
    np.testing.assert_allclose(ssim(pictures(50, 200), pictures(100, 20)), wanted)


def test_ssim_of_one_window_is_the_definition() -> None:
    """Pictures of 11 x 11 hold one window: equation 13 of the paper with its weights written out."""
    images, truths = noise(1, 11), noise(1, 11)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2

    def mean(values: np.ndarray) -> np.ndarray:
        return (weights[..., None] * values).sum((0, 1))

    x, y = images[0].astype(float), truths[0].astype(float)
    mean_x, mean_y = mean(x), mean(y)
    spread_x, spread_y = mean((x - mean_x) ** 2), mean((y - mean_y) ** 2)
    together = mean((x - mean_x) * (y - mean_y))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    wanted = (2 * mean_x * mean_y + c1) * (2 * together + c2)
    wanted /= (mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2)
    np.testing.assert_allclose(ssim(images, truths), wanted.mean())


def test_ssim_leaves_out_windows_that_reach_over_the_border() -> None:
    images, truths = noise(1, 12), noise(1, 12)
    parts = [(slice(None), slice(i, i + 11), slice(j, j + 11)) for i, j in np.ndindex(2, 2)]
    wanted = np.mean([ssim(images[part], truths[part]) for part in parts])
    np.testing.assert_allclose(ssim(images, truths), wanted)


def test_ssim_needs_a_window() -> None:
    with pytest.raises(ValueError, match="10x16: SSIM needs sides of at least 11"):
        ssim(np.zeros((1, 16, 10, 3), np.uint8), np.zeros((1, 16, 10, 3), np.uint8))


def test_edges_do_not_feel_light_but_steps_down_and_across_alike() -> None:
    truths = pictures(100)
    np.testing.assert_allclose(edge_error(truths + 40, truths), 0.0)
    ramp = (3 * np.arange(16, dtype=np.uint8))[:, None]
    np.testing.assert_allclose(edge_error(truths + ramp, truths), 3 / 2)  # across only
    np.testing.assert_allclose(edge_error(truths + 2 * ramp[:, None], truths), 6 / 2)  # down only


def test_edges_of_one_wrong_pixel() -> None:
    truths = pictures(100)
    images = truths.copy()
    images[0, 4, 7] -= 60
    np.testing.assert_allclose(edge_error(images, truths), 2 * 60 / (16 * 15))


@pytest.mark.parametrize("measure", [psnr, ssim, edge_error])
def test_pictures_without_a_true_one_are_refused(measure) -> None:
    with pytest.raises(ValueError, match="each needs a true one"):
        measure(pictures(1, 2), pictures(1))
