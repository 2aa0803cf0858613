"""Fidelity of decoded pictures to the true ones, picture by picture: PSNR, SSIM and the error of their edges."""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import ArrayLike

__all__ = ["decibels", "edge_error", "psnr", "ssim"]

ImageBatch = UInt8[np.ndarray, "b h w 3"]
TrueImages = UInt8[np.ndarray, "n H W 3"]
"""One for each picture, of its size: `pair_images` says what is wrong where not."""

PerImage = Float[np.ndarray, " b"]

LEVELS = 255.0
ROUNDING = 1 / 12
"""The squared error of rounding to whole levels: what two pictures of 8 bits may differ by and be the same."""

SIGMA, RADIUS = 1.5, 5  # pixels, of SSIM's window of 11 x 11
STEADY = (0.01 * LEVELS) ** 2, (0.03 * LEVELS) ** 2  # C1 and C2


def psnr(images: ImageBatch, truths: TrueImages) -> PerImage:
    """The peak signal-to-noise ratio in dB, over all pixels and channels; at most 58.9, where all are the same."""
    squares = [np.mean(np.square(image.astype(np.float64) - truth)) for image, truth in pair_images(images, truths)]
    return decibels(squares)


def decibels(squares: ArrayLike) -> np.ndarray:
    """The peak signal-to-noise ratio in dB of mean squared errors in levels of 255, which are at least `ROUNDING`."""
    return np.asarray(10.0 * np.log10(LEVELS**2 / np.maximum(squares, ROUNDING)))


def ssim(images: ImageBatch, truths: TrueImages) -> PerImage:
    """The structural similarity, at most 1: the mean of the red, the green and the blue channel's.

    Wang et al. 2004 (IEEE TIP 13.4, equations 13 to 17): a Gaussian window of 11 x 11 pixels with sigma 1.5, K1 = 0.01,
    K2 = 0.03, and the mean over the places where the whole window lies in the picture. ValueError below 11 pixels.
    """
    if min(images.shape[1:3]) <= 2 * RADIUS:
        side = 2 * RADIUS + 1
        raise ValueError(f"pictures of {images.shape[2]}x{images.shape[1]}: SSIM needs sides of at least {side} pixels")
    return np.array([image_ssim(image.astype(np.float64), truth) for image, truth in pair_images(images, truths)])


def image_ssim(x: Float[np.ndarray, "h w 3"], truth: UInt8[np.ndarray, "h w 3"]) -> float:
    """The SSIM of one picture x."""
    y = truth.astype(np.float64)
    mean_x, mean_y = gaussian_mean(x), gaussian_mean(y)
    spread_x, spread_y = gaussian_mean(x * x) - mean_x**2, gaussian_mean(y * y) - mean_y**2
    together = gaussian_mean(x * y) - mean_x * mean_y
    first, second = STEADY
    light = (2 * mean_x * mean_y + first) / (mean_x**2 + mean_y**2 + first)
    structure = (2 * together + second) / (spread_x + spread_y + second)
    return float(np.mean(light * structure))


def gaussian_mean(values: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h2 w2 3"]:
    """The mean under the window, where all of it lies in the picture."""
    from scipy.ndimage import gaussian_filter  # a tenth of the time in which training's modules are imported

    blurred = gaussian_filter(values, SIGMA, axes=(0, 1), radius=RADIUS)
    return blurred[RADIUS:-RADIUS, RADIUS:-RADIUS]


def edge_error(images: ImageBatch, truths: TrueImages) -> PerImage:
    """The mean absolute error of the steps from each pixel to the next, across and down, in 1/255: blur and noise."""
    return np.array([step_error(image.astype(np.float64) - truth) for image, truth in pair_images(images, truths)])


def step_error(error: Float[np.ndarray, "h w 3"]) -> float:
    """The mean size of the steps in a picture's error, of those across and those down in equal parts."""
    return float(np.mean([np.mean(np.abs(np.diff(error, axis=axis))) for axis in (0, 1)]))


def pair_images(images: ImageBatch, truths: TrueImages) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each picture with the true one; ValueError where they are not of one size and number."""
    if images.shape != truths.shape:
        raise ValueError(f"pictures {images.shape} and true ones {truths.shape}: each needs a true one of its own size")
    return list(zip(images, truths, strict=True))
