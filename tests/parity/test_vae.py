"""The KL autoencoder against diffusers' AutoencoderKL, through its files both ways."""

import json

import diffusers
import jax.numpy as jnp
import pytest
import torch
from safetensors.torch import load_file, save_file

from dalle3_jax import convert
from dalle3_jax.models.vae import VAE
from tests.parity import folders, references, weights

pytestmark = pytest.mark.network("VAE", "diffusers AutoencoderKL")

CASES = {
    "sd_like": {"channels": (32, 64), "blocks": 1, "groups": 32},
    "three_levels": {"channels": (24, 36, 60), "blocks": 2, "groups": 6, "latent_channels": 7},
    "one_group_same_width": {"channels": (15, 15), "blocks": 1, "groups": 1, "latent_channels": 1},
    "instance_like_groups": {"channels": (18, 9), "blocks": 1, "groups": 9, "latent_channels": 3},
    "no_attention": {"channels": (16, 16, 32), "blocks": 1, "groups": 4, "attention": False},
    "no_quant_convs": {"channels": (12, 20), "blocks": 1, "groups": 4, "latent_channels": 16, "quant_convs": False},
    "quant_conv_of_the_encoder": {"channels": (8, 8), "blocks": 1, "groups": 2, "decoder_quant_conv": False},
    "quant_conv_of_the_decoder": {
        "channels": (8,),
        "blocks": 3,
        "groups": 4,
        "quant_convs": False,
        "decoder_quant_conv": True,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_vae(case, agree, run, tmp_path):
    fields = CASES[case]
    theirs = references.vae(fields)
    ours, params = folders.imported(theirs, tmp_path / "theirs")
    assert ours == VAE(**fields, decoder_blocks=fields["blocks"] + 1)
    with weights.read_once(theirs) as w:
        folders.assert_same_tree(params, weights.vae(w, len(fields["channels"]), fields["blocks"]))

    images = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    posterior = theirs.encode(images).latent_dist
    reconstruction, mean, logvar = run(ours, params, jnp.asarray(images.permute(0, 2, 3, 1).numpy()))
    agree(mean, posterior.mean.permute(0, 2, 3, 1))
    agree(logvar, posterior.logvar.permute(0, 2, 3, 1))
    agree(reconstruction, theirs.decode(posterior.mean).sample.permute(0, 2, 3, 1))

    back = folders.exported(ours, params, diffusers.AutoencoderKL, tmp_path / "ours")
    folders.assert_same_weights(back, theirs)
    agree(reconstruction, back(images).sample.permute(0, 2, 3, 1))


def test_names_of_the_first_files_are_read_as_diffusers_reads_them(tmp_path):
    theirs = references.vae(CASES["sd_like"])
    _, params = folders.imported(theirs, tmp_path)
    tensors = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    for new, old in references.OLD_NAMES.items():
        tensors = {name.replace(f".{new}.", f".{old}."): value for name, value in tensors.items()}
    assert sum("proj_attn" in name for name in tensors) == 4
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    folders.assert_same_tree(convert.load(tmp_path)[1], params)
    folders.assert_same_weights(diffusers.AutoencoderKL.from_pretrained(tmp_path), theirs)


def test_a_config_of_the_first_files_has_diffusers_defaults(tmp_path):
    theirs = references.vae(CASES["sd_like"])
    ours, _ = folders.imported(theirs, tmp_path)
    file = tmp_path / "config.json"
    later = ("norm_num_groups", "force_upcast", "shift_factor", "use_quant_conv", "use_post_quant_conv")
    config = {name: value for name, value in json.loads(file.read_text()).items() if name not in later}
    file.write_text(json.dumps(config))
    assert convert.load(tmp_path)[0] == ours
