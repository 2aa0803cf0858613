"""T5's block and encoder against transformers, and its files both ways."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.t5.modeling_t5 import T5Block as TorchBlock

from dalle3_jax import convert
from dalle3_jax.models.t5 import T5Block, T5Encoder, relative_buckets
from tests.parity import folders, references, weights

pytestmark = pytest.mark.network("T5 encoder", "transformers T5EncoderModel")

LENGTHS = (40, 13, 1)
"""The unmasked tokens of each row."""

CASES = {
    "v1.1": {"width": 24, "heads": 3, "head_size": 8, "mlp_width": 40, "layers": 2},
    "v1.0": {"width": 32, "heads": 4, "head_size": 8, "mlp_width": 64, "layers": 2, "activation": "relu"},
    "ul2": {"width": 20, "heads": 2, "head_size": 10, "mlp_width": 28, "layers": 2, "activation": "gated_silu"},
    "one_layer": {"width": 16, "heads": 2, "head_size": 4, "mlp_width": 20, "layers": 1},
    "inner_wider_than_width": {"width": 12, "heads": 5, "head_size": 16, "mlp_width": 8, "layers": 3},
    "few_buckets": {
        "width": 16,
        "heads": 1,
        "head_size": 8,
        "mlp_width": 24,
        "layers": 2,
        "relative_buckets": 8,
        "relative_max_distance": 20,
        "activation": "relu",
    },
    "many_buckets": {
        "width": 16,
        "heads": 2,
        "head_size": 8,
        "mlp_width": 24,
        "layers": 4,
        "relative_buckets": 64,
        "relative_max_distance": 256,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_encoder(case, agree, run, tmp_path):
    fields = CASES[case]
    theirs = references.made(transformers.T5EncoderModel, references.t5_config(fields))
    encoder, params = folders.imported(theirs, tmp_path)
    assert encoder == T5Encoder(vocab_size=50, **fields)
    with weights.read_once(theirs, ignore=("encoder.embed_tokens.weight",)) as w:
        folders.assert_same_tree(params, weights.t5(w, fields["layers"], gated=fields.get("activation") != "relu"))

    ids = np.random.default_rng(1).integers(0, 50, (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    features = run(encoder, params, jnp.asarray(ids), jnp.asarray(mask))
    expected = theirs(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
    agree(np.asarray(features)[mask], expected[torch.from_numpy(mask)])


@pytest.mark.parametrize("case", CASES)
def test_what_we_write_is_what_transformers_reads(case, tmp_path):
    theirs = references.made(transformers.T5EncoderModel, references.t5_config(CASES[case]))
    encoder, params = folders.imported(theirs, tmp_path / "theirs")
    again = folders.exported(encoder, params, transformers.T5EncoderModel, tmp_path / "ours")
    folders.assert_same_weights(again, theirs)


@pytest.mark.parametrize("case", ["v1.1", "v1.0", "ul2"])
def test_the_encoder_of_a_whole_model_in_shards(case, tmp_path):
    config = references.t5_config(CASES[case])
    whole = references.made(transformers.T5ForConditionalGeneration, config)
    whole.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 2
    encoder, params = convert.load(tmp_path / "whole")
    alone = transformers.T5EncoderModel(config)
    alone.load_state_dict({name: whole.state_dict()[name] for name in alone.state_dict()})
    expected, tree = folders.imported(alone, tmp_path / "alone")
    assert encoder == expected
    folders.assert_same_tree(params, tree)


@pytest.mark.parametrize("case", CASES)
def test_block(case, agree, run):
    fields = CASES[case]
    config = references.t5_config(fields)
    theirs = references.made(TorchBlock, config, has_relative_attention_bias=False)
    activation = fields.get("activation", "gated_gelu")
    with weights.read_once(theirs) as w:
        params = weights.t5_block(w, gated=activation != "relu")

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 11, fields["width"], generator=generator)
    bias = torch.randn(1, fields["heads"], 11, 11, generator=generator)
    mask = torch.arange(11)[None] < torch.tensor([11, 4])[:, None]
    hidden = torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]
    expected = theirs(x, position_bias=bias + hidden)[0]
    block = T5Block(fields["heads"], fields["head_size"], fields["mlp_width"], activation)
    out, _ = run(block, params, *(jnp.asarray(value.numpy()) for value in (x, mask, bias)))
    agree(out, expected)


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 256), (6, 7), (48, 1000)])
def test_relative_buckets_are_equal_at_every_distance(buckets, max_distance):
    length = 300
    position = torch.arange(length)
    expected = T5Attention._relative_position_bucket(
        position[None, :] - position[:, None], bidirectional=True, num_buckets=buckets, max_distance=max_distance
    )
    np.testing.assert_array_equal(relative_buckets(length, buckets, max_distance), expected.numpy())
