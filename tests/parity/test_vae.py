"""The KL autoencoder against diffusers' AutoencoderKL."""

import diffusers
import jax.numpy as jnp
import pytest
import torch

from dalle3_jax.models.vae import VAE
from tests.parity import weights

CASES = {
    "sd_like": {"channels": (32, 64), "blocks": 1, "groups": 32},
    "three_levels": {"channels": (24, 36, 60), "blocks": 2, "groups": 6, "latent_channels": 7},
    "one_group_same_width": {"channels": (15, 15), "blocks": 1, "groups": 1, "latent_channels": 1},
    "instance_like_groups": {"channels": (18, 9), "blocks": 1, "groups": 9, "latent_channels": 3},
    "no_attention": {"channels": (16, 16, 32), "blocks": 1, "groups": 4, "attention": False},
    "no_quant_convs": {"channels": (12, 20), "blocks": 1, "groups": 4, "latent_channels": 16, "quant_convs": False},
}


def reference(fields: dict) -> torch.nn.Module:
    levels = len(fields["channels"])
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=fields["channels"],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=fields["blocks"],
        latent_channels=fields.get("latent_channels", 4),
        norm_num_groups=fields["groups"],
        mid_block_add_attention=fields.get("attention", True),
        use_quant_conv=fields.get("quant_convs", True),
        use_post_quant_conv=fields.get("quant_convs", True),
    )
    return weights.perturb(vae)


@pytest.mark.parametrize("case", CASES)
def test_vae(case, agree, run):
    fields = CASES[case]
    theirs = reference(fields)
    ours = VAE(**fields, decoder_blocks=fields["blocks"] + 1)
    with weights.read_once(theirs) as w:
        params = weights.vae(w, len(fields["channels"]), fields["blocks"])

    images = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    posterior = theirs.encode(images).latent_dist
    reconstruction, mean, logvar = run(ours, params, jnp.asarray(images.permute(0, 2, 3, 1).numpy()))
    agree(mean, posterior.mean.permute(0, 2, 3, 1))
    agree(logvar, posterior.logvar.permute(0, 2, 3, 1))
    agree(reconstruction, theirs.decode(posterior.mean).sample.permute(0, 2, 3, 1))
