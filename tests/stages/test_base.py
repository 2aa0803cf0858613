"""What the stage of the base model asks of its networks before it begins."""

import pytest

from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.xfnet import XFNet
from dalle3_jax.stages.base import check_grid
from dalle3_jax.stages.networks import StageNetworks

UNET = UNet((Level(8, 1),), grid=(2, 3))


def check(**modules):
    check_grid(StageNetworks(modules, {}, {}, ()))


def test_a_unet_with_a_grid_wants_an_xfnet_with_a_token_for_every_cell():
    check(unet=UNET, xfnet=XFNet("resampler", 8, 8, queries=6))
    check(unet=UNET.clone(grid=None), xfnet=XFNet("linear", 8, 8))
    with pytest.raises(ValueError, match=r"model.unet: grid \(2, 3\) wants an xfnet of kind resampler with 6 queries"):
        check(unet=UNET, xfnet=XFNet("resampler", 8, 8, queries=4))
    with pytest.raises(ValueError, match="wants an xfnet of kind resampler with 6"):
        check(unet=UNET, xfnet=XFNet("transformer", 8, 8, queries=6))
    with pytest.raises(ValueError, match="the stage needs xfnet"):
        check(unet=UNET)
