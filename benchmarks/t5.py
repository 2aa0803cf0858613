"""T5 v1.1-base's encoder over captions of 128 tokens, against transformers in eager mode."""

import jax
import jax.numpy as jnp
import torch
from transformers import T5Config, T5EncoderModel

from benchmarks.timing import Comparison, count_parameters
from benchmarks.unets import random_params
from dalle3_jax.models.t5 import T5Encoder

LENGTH = 128
BATCH = 4


def comparison(quick: bool) -> Comparison:
    """Both encoders with random weights and the same ids."""
    layers, vocabulary = (2, 1000) if quick else (12, 32128)
    module = T5Encoder(vocabulary, width=768, layers=layers, heads=12, head_size=64, mlp_width=2048)
    ids = jax.random.randint(jax.random.key(1), (BATCH, LENGTH), 2, vocabulary)
    mask = jnp.ones((BATCH, LENGTH), bool)
    weights = random_params(module, ids, mask)
    encode = jax.jit(lambda weights, ids, mask: module.apply({"params": weights}, ids, mask))

    config = T5Config(
        vocab_size=vocabulary,
        d_model=768,
        num_layers=layers,
        num_heads=12,
        d_kv=64,
        d_ff=2048,
        feed_forward_proj="gated-gelu",
    )
    reference = T5EncoderModel(config).eval()
    torch_ids = torch.arange(2, 2 + LENGTH).repeat(BATCH, 1)
    torch_mask = torch.ones(BATCH, LENGTH, dtype=torch.long)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return reference(torch_ids, attention_mask=torch_mask).last_hidden_state

    return Comparison(
        title="T5 encoder",
        line=f"{layers} layers of T5 v1.1-base, batch {BATCH}, {LENGTH} tokens; transformers, eager",
        ours=lambda: encode(weights, ids, mask).block_until_ready(),
        theirs=theirs,
        parameters=(count_parameters(weights), count_parameters(reference)),
        floor=1.0,
        goal=0.85,
    )
