"""The captioner against what CoCa in PyTorch's layers made of the same parameters; scripts/make_golden.py wrote it."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import Tower

FOLDER = Path(__file__).parents[1] / "golden" / "captioner"


def test_vectors_and_logits_are_pytorchs():
    fields = json.loads((FOLDER / "fields.json").read_text())
    towers = {name: Tower(*fields[name], "gelu") for name in ("vision", "text", "decoder")}
    module = Captioner(**{**fields, **towers, "image_size": tuple(fields["image_size"])})
    params = {name: value.astype(np.float32) for name, value in load_file(FOLDER / "captioner.safetensors").items()}
    kept = load_file(FOLDER / "expected.safetensors")
    inputs = [jnp.asarray(kept[f"in.{name}"]) for name in ("ids", "mask", "images")]
    found = jax.jit(module.apply)({"params": unflatten_dict(params, sep=".")}, *inputs)
    for name in found._fields:
        expected = kept[f"out.{name}"]
        np.testing.assert_allclose(getattr(found, name), expected, atol=2e-5 * np.abs(expected).max(), err_msg=name)
