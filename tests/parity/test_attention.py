"""Attention and the spatial transformer against torch and diffusers."""

import jax
import jax.numpy as jnp
import pytest
import torch
from diffusers.models.attention_processor import Attention as TorchAttention
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.transformers.transformer_2d import Transformer2DModel

from dalle3_jax.nn.attention import Attention, attend
from dalle3_jax.nn.transformer import PixelAttention, SpatialTransformer
from tests.parity import weights

pytestmark = pytest.mark.network("attention", "diffusers Attention")

CASES = {
    "self": {"heads": 4, "head_size": 8, "width": 32},
    "self_with_biases": {"heads": 3, "head_size": 5, "width": 14, "qkv_bias": True},
    "cross": {"heads": 2, "head_size": 16, "width": 24, "context": 40},
    "cross_masked": {"heads": 2, "head_size": 7, "width": 10, "context": 6, "mask": True},
    "self_masked_no_out_bias": {"heads": 1, "head_size": 24, "width": 24, "mask": True, "out_bias": False},
    "qk_norm": {"heads": 4, "head_size": 6, "width": 24, "context": 9, "mask": True, "qk_norm": True},
    "own_scale": {"heads": 2, "head_size": 8, "width": 16, "scale": 0.7},
}


def to_jax(*tensors: torch.Tensor) -> list[jax.Array]:
    return [jnp.asarray(tensor.numpy()) for tensor in tensors]


def lengths_mask(length: int) -> torch.Tensor:
    return torch.arange(length)[None] < torch.tensor([length, 3])[:, None]


@pytest.mark.parametrize("case", CASES)
def test_attention(case, agree, run):
    fields = dict(CASES[case])
    width, context_width, masked = fields.pop("width"), fields.pop("context", None), fields.pop("mask", False)
    torch.manual_seed(0)
    theirs = TorchAttention(
        width,
        context_width,
        fields["heads"],
        dim_head=fields["head_size"],
        bias=fields.get("qkv_bias", False),
        out_bias=fields.get("out_bias", True),
        qk_norm="rms_norm" if fields.get("qk_norm") else None,
        eps=1e-6,
    )
    theirs.scale = fields.get("scale", theirs.scale)
    weights.perturb(theirs)
    with weights.read_once(theirs) as w:
        params = weights.attention(w)
        if fields.get("qk_norm"):
            params |= {ours: {"scale": w[f"{theirs}.weight"]} for ours, theirs in weights.QK_NORMS.items()}

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 9, width, generator=generator)
    context = torch.randn(2, 13, context_width, generator=generator) if context_width else x
    mask = lengths_mask(context.shape[1]) if masked else None
    hidden = None if mask is None else torch.where(mask, 0.0, -torch.inf)[:, None, :]
    if "scale" in fields:
        theirs.set_processor(AttnProcessor())  # the fused one ignores `scale`
    expected = theirs(x, context, hidden)
    out = run(Attention(**fields), params, *to_jax(x, context), mask=None if mask is None else to_jax(mask)[0])
    agree(out, expected)


@pytest.mark.parametrize("length", [7, 520])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_and_its_gradients(length, masked, agree):
    """520 x 520 scores take the tiled path on a CPU."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, weight = (torch.randn(2, length, 2, 5, generator=generator) for _ in range(4))
    mask = lengths_mask(length) if masked else None
    for tensor in (q, k, v):
        tensor.requires_grad_()
    heads_first = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(
        *heads_first, attn_mask=None if mask is None else mask[:, None, None, :], scale=0.3
    ).transpose(1, 2)
    (expected * weight).sum().backward()

    keys = None if mask is None else to_jax(mask)[0]
    target = to_jax(weight)[0]

    def total(q, k, v):
        out = attend(q, k, v, keys, scale=0.3)
        return (out * target).sum(), out

    inputs = to_jax(*(tensor.detach() for tensor in (q, k, v)))
    gradients, out = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*inputs)
    agree(out, expected)
    for ours, theirs in zip(gradients, (q, k, v), strict=True):
        agree(ours, theirs.grad)


# diffusers warns of its own return type.
@pytest.mark.filterwarnings("ignore:.*Transformer2DModelOutput:FutureWarning")
@pytest.mark.parametrize(
    ("depth", "heads", "head_size", "groups", "linear", "masked"),
    [(1, 2, 8, 4, False, False), (2, 3, 4, 3, True, True), (3, 1, 10, 5, False, True)],
)
def test_spatial_transformer(depth, heads, head_size, groups, linear, masked, agree, run):
    torch.manual_seed(0)
    channels = heads * head_size
    theirs = Transformer2DModel(
        heads,
        head_size,
        in_channels=channels,
        num_layers=depth,
        norm_num_groups=groups,
        cross_attention_dim=11,
        use_linear_projection=linear,
    )
    weights.perturb(theirs)
    with weights.read_once(theirs) as w:
        params = weights.spatial_transformer(w, depth)

    generator = torch.Generator().manual_seed(1)
    x, context = torch.randn(2, channels, 5, 7, generator=generator), torch.randn(2, 13, 11, generator=generator)
    mask = lengths_mask(13) if masked else torch.ones(2, 13, dtype=torch.bool)
    expected = theirs(x, context, encoder_attention_mask=mask).sample
    module = SpatialTransformer(depth, heads, head_size, groups=groups)
    out = run(module, params, *to_jax(x.permute(0, 2, 3, 1), context, mask))
    agree(out, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize(("channels", "groups"), [(16, 4), (9, 3)])
def test_pixel_attention(channels, groups, agree, run):
    torch.manual_seed(0)
    theirs = TorchAttention(
        channels,
        heads=1,
        dim_head=channels,
        norm_num_groups=groups,
        eps=1e-6,
        bias=True,
        residual_connection=True,
    )
    weights.perturb(theirs)
    with weights.read_once(theirs) as w:
        params = {"norm": weights.norm(w / "group_norm"), "attention": weights.attention(w)}
    x = torch.randn(2, channels, 6, 3, generator=torch.Generator().manual_seed(1))
    out = run(PixelAttention(groups), params, *to_jax(x.permute(0, 2, 3, 1)))
    agree(out, theirs(x).permute(0, 2, 3, 1))
