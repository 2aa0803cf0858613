"""Forward passes timed against PyTorch's in turns, at sizes where arithmetic takes most of the time.

A guard against gross regressions and the last column of the closing table; `make bench` measures with more care.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from dalle3_jax.models.condition import Condition
from tests.parity import folders, references

SLOWEST = 3.0
RNG = np.random.default_rng(0)


@pytest.fixture
def timed(pace, tmp_path) -> Callable[..., None]:
    """timed(reference, their call, *our inputs): ours is the network of the folder that the reference writes."""

    def run(theirs: torch.nn.Module, call: Callable[[], Any], *inputs: Any, method: str | None = None) -> None:
        module, params = folders.imported(theirs, tmp_path)
        apply = jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs, method=method))
        ratio = pace(lambda: jax.block_until_ready(apply(params, *inputs)), torch.inference_mode()(call))
        assert ratio < SLOWEST

    return run


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def tokens(*shape: int) -> np.ndarray:
    return RNG.integers(3, 1000, shape, np.int32)


def channels_first(x: np.ndarray) -> torch.Tensor:
    """The same values in the order that PyTorch is fastest at."""
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def fast(module: torch.nn.Module) -> torch.nn.Module:
    return module.to(memory_format=torch.channels_last)


@pytest.mark.network("T5 encoder", "transformers T5EncoderModel")
def test_t5_encoder(timed):
    fields = {"width": 768, "heads": 12, "head_size": 64, "mlp_width": 2048, "layers": 4}
    theirs = references.made(transformers.T5EncoderModel, references.t5_config(fields, vocabulary=1000))
    ids, mask = tokens(4, 128), np.ones((4, 128), bool)
    given = torch.from_numpy(ids), torch.from_numpy(mask)
    timed(theirs, lambda: theirs(given[0], attention_mask=given[1]), ids, mask)


@pytest.mark.network("CLIP text", "transformers CLIPTextModel")
def test_clip_text_encoder(timed):
    fields = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 4, "intermediate_size": 3072}
    theirs = references.clip_text({**fields, "vocab_size": 1000, "max_position_embeddings": 77})
    ids = tokens(4, 77)
    given = torch.from_numpy(ids)
    timed(theirs, lambda: theirs(given), ids, np.ones(ids.shape, bool))


@pytest.mark.network("CLIP", "transformers CLIPModel")
def test_clip_image_tower(timed):
    text = {"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    vision = {"hidden_size": 768, "num_attention_heads": 12, "num_hidden_layers": 4, "intermediate_size": 3072}
    theirs = references.clip(text, {**vision, "image_size": 224, "patch_size": 32})
    images = normal(4, 224, 224, 3)
    given = channels_first(images).contiguous()
    timed(theirs, lambda: theirs.get_image_features(given), images, method="encode_image")


@pytest.mark.network("VAE", "diffusers AutoencoderKL")
def test_vae_decode(timed):
    theirs = fast(references.vae({"channels": (64, 128, 256, 256), "blocks": 2, "groups": 32}))
    latents = normal(1, 12, 12, 4)
    given = channels_first(latents)
    timed(theirs, lambda: theirs.decode(given), latents, method="decode")


@pytest.mark.network("UNet", "diffusers UNet2DConditionModel")
def test_unet(timed):
    """Stable Diffusion 1's shape at less than half its width."""
    fields = {"channels": (128, 256, 512, 512), "depths": (1, 1, 1, 0), "heads": (8,) * 4, "groups": 32}
    theirs = fast(references.unet(fields, cross_attention_dim=768))
    x, text, t = normal(1, 32, 32, 4), normal(1, 77, 768), np.full(1, 500.0, np.float32)
    condition = Condition(*map(jnp.asarray, (text, np.ones((1, 77), bool), np.zeros((1, 768), np.float32))))
    given = channels_first(x), torch.from_numpy(t), torch.from_numpy(text)
    timed(theirs, lambda: theirs(*given), x, t, condition)


@pytest.mark.network("consistency decoder", "diffusers ConsistencyDecoderVAE")
def test_consistency_decoder(timed):
    """Its UNet, once."""
    theirs = fast(references.consistency_decoder((64, 128, 256, 256), encoder=(4,) * 4, blocks=3, groups=32))
    x, latents, t = normal(1, 96, 96, 3), normal(1, 12, 12, 4), np.full(1, 512.0, np.float32)
    wide = np.concatenate([x, latents.repeat(8, 1).repeat(8, 2)], axis=-1)
    given = channels_first(wide), torch.tensor([512])
    timed(theirs, lambda: theirs.decoder_unet(*given), x, t, latents)
