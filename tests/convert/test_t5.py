"""T5's config and table: XXL's encoder and a whole v1.0 at full size, and all that is refused."""

import math

import pytest

from dalle3_jax.convert import t5
from dalle3_jax.convert.rules import import_moves
from dalle3_jax.models.t5 import T5Encoder
from tests.convert import public

# The config.json of T5 v1.1 XXL's encoder, and of T5 v1.0 small with its decoder.
XXL = {
    "architectures": ["T5EncoderModel"],
    "d_ff": 10240,
    "d_kv": 64,
    "d_model": 4096,
    "dense_act_fn": "gelu_new",
    "dropout_rate": 0.1,
    "feed_forward_proj": "gated-gelu",
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "num_decoder_layers": 24,
    "num_heads": 64,
    "num_layers": 24,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "vocab_size": 32128,
}
SMALL = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2048,
    "d_kv": 64,
    "d_model": 512,
    "layer_norm_epsilon": 1e-06,
    "n_positions": 512,
    "num_heads": 8,
    "num_layers": 6,
    "task_specific_params": {"summarization": {"max_length": 200}},
    "vocab_size": 32128,
}


def weights(name: str) -> dict[str, tuple[int, ...]]:
    """The tensors of a public file but for second copies."""
    copies = t5.LAYOUT.tied({"tie_word_embeddings": False})[1:2]
    return {tensor: shape for tensor, shape in public.tensors(name).items() if tensor not in copies}


def test_every_tensor_of_xxl_has_its_place():
    found = weights("t5_xxl_encoder")
    assert sum(map(math.prod, found.values())) == 4_762_310_656
    encoder = T5Encoder(32128, width=4096, layers=24, heads=64, head_size=64, mlp_width=10240)
    assert public.fits(t5.LAYOUT, XXL, found) == encoder


def test_the_decoder_of_a_whole_t5_is_left_out():
    found = weights("t5_v1_0_full")
    assert sum(name.startswith("decoder.") for name in found) > 70
    assert "lm_head.weight" in found
    encoder = T5Encoder(32128, width=512, layers=6, heads=8, head_size=64, mlp_width=2048, activation="relu")
    assert public.fits(t5.LAYOUT, SMALL, found) == encoder


@pytest.mark.parametrize("name", ["t5_xxl_encoder", "t5_v1_0_full"])
def test_copies_of_the_embedding_are_known(name):
    found = public.tensors(name)
    copies = set(found) - set(weights(name))
    assert copies == {"encoder.embed_tokens.weight"}
    assert all(found[copy] == found[t5.LAYOUT.tied({})[0]] for copy in copies)


def test_the_embedding_may_go_by_the_name_of_its_copy():
    found = weights("t5_xxl_encoder")
    renamed = {name.replace("shared", "encoder.embed_tokens"): shape for name, shape in found.items()}
    table, params = public.rules(t5.LAYOUT, XXL), public.parameters(t5.LAYOUT.module(XXL))
    assert [move[1:] for move in import_moves(table, renamed, params)] == [
        move[1:] for move in import_moves(table, found, params)
    ]


@pytest.mark.parametrize("config", [XXL, SMALL])
@pytest.mark.parametrize("tied", [True, False, None])
def test_the_table_of_the_output_is_that_of_the_tokens_where_the_config_ties_them(config, tied):
    config = {key: value for key, value in config.items() if key != "tie_word_embeddings"}
    config |= {} if tied is None else {"tie_word_embeddings": tied}
    sources = {rule.source for rule in public.rules(t5.LAYOUT, config) if rule.target == "token_embedding.embedding"}
    assert "decoder.embed_tokens.weight" in sources
    assert ("lm_head.weight" in sources) == (tied is not False)


@pytest.mark.parametrize(
    ("options", "activation"),
    [
        ({"is_gated_act": True, "dense_act_fn": "gelu_new"}, "gated_gelu"),
        ({"is_gated_act": True, "dense_act_fn": "silu"}, "gated_silu"),
        ({"is_gated_act": False, "dense_act_fn": "relu"}, "relu"),
        ({"dense_act_fn": "relu"}, "relu"),
        ({"is_gated_act": True, "dense_act_fn": "gelu_new", "feed_forward_proj": "relu"}, "relu"),
    ],
)
def test_what_follows_from_feed_forward_proj_stands_for_it(options, activation):
    said = ("feed_forward_proj", "is_gated_act", "dense_act_fn")
    config = {key: value for key, value in XXL.items() if key not in said}
    assert t5.LAYOUT.module(config | options).activation == activation
    with pytest.raises(ValueError, match="feed_forward_proj='gated-swish'"):
        t5.LAYOUT.module({**config, "is_gated_act": True, "dense_act_fn": "swish"})


def test_layers_and_projections_keep_their_numbers_and_names():
    params = public.parameters(t5.LAYOUT.module(XXL))
    found = {
        move.source: move for move in import_moves(public.rules(t5.LAYOUT, XXL), weights("t5_xxl_encoder"), params)
    }
    block = "encoder.block.17.layer"
    expected = {
        f"{block}.0.SelfAttention.q.weight": "attention.query.kernel",
        f"{block}.0.SelfAttention.k.weight": "attention.key.kernel",
        f"{block}.0.SelfAttention.v.weight": "attention.value.kernel",
        f"{block}.0.SelfAttention.o.weight": "attention.out.kernel",
        f"{block}.0.layer_norm.weight": "norm_1.scale",
        f"{block}.1.layer_norm.weight": "norm_2.scale",
        f"{block}.1.DenseReluDense.wi_0.weight": "feed_forward.wi_0.kernel",
        f"{block}.1.DenseReluDense.wi_1.weight": "feed_forward.wi_1.kernel",
        f"{block}.1.DenseReluDense.wo.weight": "feed_forward.wo.kernel",
    }
    assert {name: (found[name].target, found[name].layer) for name in expected} == {
        name: (f"layers.{target}", 17) for name, target in expected.items()
    }


@pytest.mark.parametrize("activation", ["relu", "gated_gelu", "gated_silu"])
@pytest.mark.parametrize("fields", [{}, {"relative_buckets": 8, "relative_max_distance": 20}])
def test_a_config_that_was_written_reads_as_the_same_network(activation, fields):
    encoder = T5Encoder(90, 8, 3, 2, 5, 12, activation, **fields)
    assert t5.LAYOUT.module(t5.LAYOUT.config(encoder)) == encoder


def test_a_missing_option_is_what_transformers_takes_for_it():
    encoder = t5.LAYOUT.module(SMALL)
    assert (encoder.activation, encoder.relative_buckets, encoder.relative_max_distance) == ("relu", 32, 128)


def test_every_size_that_is_missing_is_named_at_once():
    with pytest.raises(ValueError, match="T5") as error:
        t5.LAYOUT.module({"d_model": 0, "d_kv": True, "d_ff": "2048", "num_layers": 2.0})
    for name in ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"):
        assert f"{name} is missing or no positive whole number" in str(error.value)


def test_every_unsupported_option_is_named_at_once():
    options = {"feed_forward_proj": "gated-relu", "layer_norm_epsilon": 1e-5, "relative_attention_num_buckets": 3}
    with pytest.raises(ValueError, match="T5") as error:
        t5.LAYOUT.module(XXL | options | {"num_heads": None})
    for text in ("feed_forward_proj='gated-relu'", "layer_norm_epsilon=1e-05", "are 3 and 128", "num_heads"):
        assert text in str(error.value)


@pytest.mark.parametrize(("buckets", "distance"), [(2, 128), (0, 128), (32, 8), (32, 0), ("32", 128), (32, None)])
def test_positions_that_cannot_be_counted_are_refused(buckets, distance):
    options = {"relative_attention_num_buckets": buckets, "relative_attention_max_distance": distance}
    with pytest.raises(ValueError, match="relative_attention_num_buckets and relative_attention_max_distance are"):
        t5.LAYOUT.module(XXL | options)
