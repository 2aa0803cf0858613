"""The captioner against CoCa in PyTorch's layers (OpenCLIP's structure), block by block and whole."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import Tower
from tests.parity import coca, weights

pytestmark = pytest.mark.network("captioner", "CoCa in torch.nn")

FIELDS = {
    "pooled": {
        **{
            "vision": (16, 2, 2, 24),
            "text": (12, 2, 3, 20),
            "decoder": (12, 3, 2, 28),
            "vocab_size": 30,
            "positions": 9,
        },
        **{"image_size": (16, 8), "patch": 4, "projection": 8, "queries": 5, "pooling_heads": 2},
    },
    "patches": {
        **{
            "vision": (12, 1, 3, 16),
            "text": (12, 1, 2, 12),
            "decoder": (12, 1, 3, 16),
            "vocab_size": 21,
            "positions": 6,
        },
        **{"image_size": (8, 8), "patch": 4, "projection": 12, "queries": 0, "pooling_heads": 2},
    },
    "other_widths": {
        **{
            "vision": (20, 3, 4, 40),
            "text": (16, 3, 4, 32),
            "decoder": (16, 2, 4, 64),
            "vocab_size": 40,
            "positions": 7,
        },
        **{"image_size": (12, 12), "patch": 6, "projection": 16, "queries": 3, "pooling_heads": 4},
    },
}


@pytest.fixture(params=FIELDS, scope="module")
def pair(request):
    """Theirs, ours with the same parameters, and inputs for both."""
    fields = FIELDS[request.param]
    torch.manual_seed(0)
    theirs = weights.perturb(coca.CoCa(fields))
    towers = {name: Tower(*fields[name], "gelu") for name in ("vision", "text", "decoder")}
    ours = Captioner(**{**fields, **towers})
    generator = torch.Generator().manual_seed(1)
    length = fields["positions"]
    ids = torch.randint(1, fields["vocab_size"], (3, length), generator=generator)
    mask = torch.arange(length) < torch.tensor([length, 4, 1])[:, None]
    images = torch.randn(3, 3, *fields["image_size"], generator=generator)
    return theirs, ours, coca.params_of(theirs.state_dict(), fields), (ids, mask, images)


def arrays(inputs):
    ids, mask, images = inputs
    return (
        jnp.asarray(ids.numpy(), jnp.int32),
        jnp.asarray(mask.numpy()),
        jnp.asarray(images.permute(0, 2, 3, 1).numpy()),
    )


def test_whole(pair, agree):
    theirs, ours, params, inputs = pair
    found = ours.apply({"params": params}, *arrays(inputs))
    with torch.no_grad():
        images, texts, scale, logits = theirs(*inputs)
    agree(found.images, images)
    agree(found.texts, texts)
    agree(found.scale, scale)
    agree(found.logits, logits)


def test_image_tower(pair, agree):
    theirs, ours, params, inputs = pair
    seen = ours.apply({"params": params}, arrays(inputs)[2], method=lambda module, x: module.image_tower(x))
    with torch.no_grad():
        vector, tokens = theirs.visual(inputs[2])
    agree(seen.vector, torch.nn.functional.normalize(vector, dim=-1))
    agree(seen.tokens, tokens)


def test_text_tower(pair, agree):
    theirs, ours, params, inputs = pair
    ids, mask, _ = arrays(inputs)
    tokens, vector, _ = ours.apply({"params": params}, ids, mask, method=lambda module, *x: module.text_tower(*x))
    with torch.no_grad():
        expected, features = theirs.text(*inputs[:2])
    agree(vector, torch.nn.functional.normalize(expected, dim=-1))
    agree(tokens, features)


def test_decoder(pair, agree):
    theirs, ours, params, _ = pair
    width, length = ours.text.width, ours.positions
    draw = np.random.default_rng(0)
    tokens = draw.normal(size=(2, length, width)).astype(np.float32)
    inner = ours.projection if ours.queries else ours.vision.width
    picture = draw.normal(size=(2, 4, inner)).astype(np.float32)
    found, _ = ours.apply(
        {"params": params}, jnp.asarray(tokens), jnp.asarray(picture), method=lambda module, *x: module.text_decoder(*x)
    )
    with torch.no_grad():
        agree(found, theirs.text_decoder(torch.from_numpy(picture), torch.from_numpy(tokens)))


def test_the_parameters_are_all_used(pair):
    theirs, _, params, _ = pair
    ours = sum(np.size(leaf) for leaf in _leaves(params))
    assert ours == sum(weight.numel() for weight in theirs.parameters())


def _leaves(tree):
    return [leaf for value in tree.values() for leaf in (_leaves(value) if isinstance(value, dict) else [value])]
