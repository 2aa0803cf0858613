"""What the stage of the base model asks of its networks before it begins."""

import pytest

from dalle3_jax.models.layout_encoder import LayoutEncoder
from dalle3_jax.models.layout_head import LayoutHead
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
    with pytest.raises(ValueError, match=r"model: unet.grid \(2, 3\) wants an xfnet of kind resampler with 6 queries"):
        check(unet=UNET, xfnet=XFNet("resampler", 8, 8, queries=4))
    with pytest.raises(ValueError, match="wants an xfnet of kind resampler with 6"):
        check(unet=UNET, xfnet=XFNet("transformer", 8, 8, queries=6))
    with pytest.raises(ValueError, match="the stage needs xfnet"):
        check(unet=UNET)


def test_a_layout_encoder_goes_with_the_head_and_the_grid_that_it_learnt_for():
    names = {"concepts": ("fox",), "tints": ("natural",), "backgrounds": ("beach",)}
    encoder, head = LayoutEncoder(8, 8, 4, (2, 3), **names), LayoutHead((2, 3), **names)
    check(unet=UNET, layout_encoder=encoder, layout_head=head)
    with pytest.raises(ValueError, match=r"layout_encoder.grid is \(2, 3\), unet.grid \(3, 2\)"):
        check(unet=UNET.clone(grid=(3, 2)), layout_encoder=encoder, layout_head=head)
    with pytest.raises(ValueError, match="layout_encoder has not the concepts of layout_head"):
        check(unet=UNET, layout_encoder=encoder, layout_head=head.clone(concepts=("owl",)))
