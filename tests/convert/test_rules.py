"""The engine of tables: misfits of both sides are listed in one error, and writing is the inverse of reading."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dalle3_jax.convert import LAYOUTS, clip, decoder, t5, unet, vae
from dalle3_jax.convert.rules import (
    AS_IS,
    CONV,
    LINEAR,
    POINTWISE,
    Move,
    Rule,
    conv,
    embedding,
    export_moves,
    import_moves,
    linear,
    matches,
    norm,
    pointwise,
)
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder, Tower
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.vae import VAE
from tests.convert.public import parameters

TABLE = [
    *linear("block.{layer}.q", "layers.query[{layer}]"),
    *norm("block.{layer}.norm", "layers.norm[{layer}]", bias=False),
    *conv("conv", "conv"),
    *pointwise("mix", "mix", bias=False),
    *embedding("words", "words"),
]
PARAMS = {
    "layers.query.kernel": (2, 3, 5),
    "layers.query.bias": (2, 5),
    "layers.norm.scale": (2, 3),
    "conv.kernel": (3, 3, 4, 6),
    "conv.bias": (6,),
    "mix.kernel": (4, 7),
    "words.embedding": (11, 3),
}
TENSORS = {
    **{f"block.{i}.q.weight": (5, 3) for i in range(2)},
    **{f"block.{i}.q.bias": (5,) for i in range(2)},
    **{f"block.{i}.norm.weight": (3,) for i in range(2)},
    "conv.weight": (6, 4, 3, 3),
    "conv.bias": (6,),
    "mix.weight": (7, 4, 1, 1),
    "words.weight": (11, 3),
}


def problems(table=TABLE, tensors=TENSORS, params=PARAMS) -> list[str]:
    with pytest.raises(ValueError, match="weights do not fit the network:\n") as error:
        import_moves(table, tensors, params)
    return str(error.value).split("\n  ")[1:]


def without(names: str, mapping=TENSORS) -> dict:
    return {name: shape for name, shape in mapping.items() if name not in names.split()}


def test_what_fits_is_moved_in_the_order_of_the_tensors():
    for tensors in (TENSORS, dict(reversed(TENSORS.items()))):
        found = import_moves(TABLE, tensors, PARAMS)
        assert [move.source for move in found] == list(tensors)
    assert found[0] == Move("words.weight", "words.embedding", None, AS_IS)
    assert Move("block.1.q.weight", "layers.query.kernel", 1, LINEAR) in found
    assert Move("mix.weight", "mix.kernel", None, POINTWISE) in found


@pytest.mark.parametrize(
    ("changes", "params", "expected"),
    [
        ({"extra": (1,)}, {}, ["tensor extra (1,) has no place here"]),
        ({"block.01.q.bias": (5,)}, {}, ["tensor block.01.q.bias (5,) has no place here"]),
        ({"block.-1.q.bias": (5,)}, {}, ["tensor block.-1.q.bias (5,) has no place here"]),
        ({"block.1.q.bias.": (5,)}, {}, ["tensor block.1.q.bias. (5,) has no place here"]),
        ({"Conv.bias": (5,)}, {}, ["tensor Conv.bias (5,) has no place here"]),
        ({"block.2.q.bias": (5,)}, {}, ["tensor block.2.q.bias (5,) is number 2 of 2 layers, counted from 0"]),
        ({"words.weight": (3, 11)}, {}, ["tensor words.weight (3, 11) gives (3, 11), words.embedding takes (11, 3)"]),
        ({"conv.weight": (6, 4, 3, 5)}, {}, ["tensor conv.weight (6, 4, 3, 5) gives (3, 5, 4, 6), conv.kernel takes"]),
        ({"block.0.q.weight": (3, 5)}, {}, ["tensor block.0.q.weight (3, 5) gives (5, 3), layers.query.kernel takes"]),
        ({"block.0.q.weight": (5,)}, {}, ["tensor block.0.q.weight (5,) has not the axes of (o, i) -> (i, o)"]),
        (
            {"mix.weight": (7, 4, 3, 3)},
            {},
            ["tensor mix.weight (7, 4, 3, 3) has not the axes of (o, i, 1, 1)"],
        ),
        ({"mix.weight": (7, 4)}, {}, ["tensor mix.weight (7, 4) has not the axes of (o, i, 1, 1) -> (i, o)"]),
        ({"mix.weight": (2**40,) * 8}, {}, ["tensor mix.weight "]),
        ({}, {"gate": ()}, ["parameter gate () is not filled"]),
        ({}, {"layers.key.kernel": (2, 3, 5)}, ["parameter layers.key.kernel (2, 3, 5) is not filled"]),
        ({}, {"conv.bias": (7,)}, ["tensor conv.bias (6,) gives (6,), conv.bias takes (7,)"]),
        ({}, {"layers.norm.scale": (4, 3)}, ["parameter layers.norm.scale lacks layers 2, 3"]),
    ],
)
def test_one_misfit_is_one_line(changes, params, expected):
    found = problems(tensors=TENSORS | changes, params=PARAMS | params)
    assert len(found) == len(expected)
    assert all(line.startswith(start) for line, start in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", TENSORS)
def test_a_missing_tensor_leaves_its_parameter_empty(name):
    [line] = problems(tensors=without(name))
    [target] = {(move.target, move.layer) for move in import_moves(TABLE, TENSORS, PARAMS) if move.source == name}
    assert line.startswith(f"parameter {target[0]} ")
    assert line.endswith("is not filled" if target[1] is None else f"lacks layers {target[1]}")


def test_a_tensor_of_a_parameter_that_is_not_there_is_named():
    [line] = problems(params=without("conv.bias", PARAMS))
    assert line == "tensor conv.bias (6,) goes to conv.bias, which this network does not have"


def test_all_misfits_of_both_sides_come_at_once():
    tensors = without("conv.bias block.0.norm.weight") | {"a": (1,), "block.7.q.bias": (5,), "words.weight": (1,)}
    found = problems(tensors=tensors, params=PARAMS | {"b": (2,)})
    assert sum(line.startswith("tensor") for line in found) == 3
    assert sum(line.startswith("parameter") for line in found) == 3


def test_of_many_misfits_the_rest_is_counted_on_each_side():
    tensors = TENSORS | {f"extra.{i}": (1,) for i in range(60)}
    found = problems(tensors=tensors, params=PARAMS | {f"lone.{i}": (1,) for i in range(55)})
    assert sum(line.startswith("tensor extra.") for line in found) == 50
    assert sum(line.startswith("parameter lone.") for line in found) == 50
    assert [line for line in found if line.startswith("...")] == [
        "... and 10 more like these",
        "... and 5 more like these",
    ]


def test_layers_that_only_a_config_claims_take_neither_time_nor_memory():
    stacked = {name: (10**30, *shape[1:]) for name, shape in PARAMS.items() if name.startswith("layers.")}
    found = problems(params=PARAMS | stacked)
    assert len(found) == 3
    assert all("lacks layers 2, 3, 4, " in line and line.endswith(", 51, ...") for line in found)


def test_a_tensor_with_two_rules_is_refused():
    assert problems([*TABLE, Rule("conv.bias", "conv.bias")])[0] == "tensor conv.bias (6,) matches 2 rules"
    again = Rule("block.{number}.q.bias", "layers.query.bias[{number}]")
    assert problems([*TABLE, again])[:2] == [f"tensor block.{i}.q.bias (5,) matches 2 rules" for i in range(2)]
    assert problems([*TABLE, Rule("block.1.q.bias", "conv.bias")])[0].startswith("tensor block.1.q.bias (5,) matches 2")


def test_two_tensors_for_one_parameter_are_refused():
    table = [*TABLE, *embedding("old_words", "words"), *linear("layer.{layer}.q", "layers.query[{layer}]")]
    assert len(import_moves(table, TENSORS, PARAMS)) == len(TENSORS)
    renamed = without("words.weight") | {"old_words.weight": (11, 3)}
    assert len(import_moves(table, renamed, PARAMS)) == len(TENSORS)
    both = TENSORS | {"old_words.weight": (11, 3), "layer.1.q.bias": (5,)}
    assert sorted(problems(table, both)) == [
        "parameter layers.query.bias layer 1 is filled twice",
        "parameter words.embedding is filled twice",
    ]


def test_a_whole_and_its_slices_fill_a_parameter_twice():
    table = [*TABLE, Rule("all_biases", "layers.query.bias")]
    tensors = without("block.0.q.bias block.1.q.bias") | {"all_biases": (2, 5)}
    assert len(import_moves(table, tensors, PARAMS)) == len(tensors)
    assert problems(table, TENSORS | tensors) == ["parameter layers.query.bias is filled twice"]


def test_a_rule_may_have_several_placeholders():
    table = linear("stage_{stage}.block.{layer}.q", "stage_{stage}.query[{layer}]", bias=False)
    tensors = {f"stage_{i}.block.{j}.q.weight": (5, 3 + i) for i, j in itertools.product(range(2), range(12))}
    params = {f"stage_{i}.query.kernel": (12, 3 + i, 5) for i in range(2)}
    found = import_moves(table, tensors, params)
    assert found[13] == Move("stage_1.block.1.q.weight", "stage_1.query.kernel", 1, LINEAR)
    assert sorted(export_moves(table, params)) == sorted(found)


def test_writing_goes_by_the_first_rule_of_a_target():
    table = [*embedding("new", "words"), *embedding("old", "words")]
    assert [move.source for move in export_moves(table, {"words.embedding": (2, 3)})] == ["new.weight"]


def test_parameters_that_no_rule_writes_are_listed():
    with pytest.raises(ValueError, match=r"parameter a \(1,\) is not filled\n  parameter b \(\) is not filled"):
        export_moves(TABLE, PARAMS | {"a": (1,), "b": ()})


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("decoder.*", "decoder.block.0.weight", True),
        ("decoder.*", "encoder.decoder.x", False),
        ("decoder.*", "decoderx", False),
        ("a.{layer}.b", "a.10.b", True),
        ("a.{layer}.b", "a.010.b", False),
        ("a.{layer}.b", "a.1.b.c", False),
        ("a.{layer}.*", "a.1.b.c", True),
        ("a.b", "a_b", False),
    ],
)
def test_patterns_of_names(pattern, name, fits):
    assert matches(["other", pattern], name) == fits


@pytest.mark.parametrize(("transform", "axes"), [(AS_IS, 3), (LINEAR, 2), (CONV, 4)])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_transforms_are_inverse_views(transform, axes, data):
    shape = tuple(data.draw(st.lists(st.integers(0, 4), min_size=axes, max_size=axes)))
    x = np.arange(np.prod(shape)).reshape(shape)
    for there, back in ((transform.ours, transform.public), (transform.public, transform.ours)):
        np.testing.assert_array_equal(back(there(x)), x)
        assert np.shares_memory(there(x), x) or x.size == 0


def test_the_pointwise_transform_is_an_inverse_view_too():
    x = np.arange(12).reshape(3, 4, 1, 1)
    assert POINTWISE.ours(x).shape == (4, 3)
    assert POINTWISE.ours(x)[1, 2] == x[2, 1, 0, 0]
    assert np.shares_memory(POINTWISE.ours(x), x)
    np.testing.assert_array_equal(POINTWISE.public(POINTWISE.ours(x)), x)


def test_transforms_say_which_axis_goes_where():
    assert CONV.ours(np.empty((2, 3, 4, 5))).shape == (4, 5, 3, 2)
    assert LINEAR.ours(np.empty((2, 3))).shape == (3, 2)


LEVELS = (Level(8, 1, 0, 2), Level(16, 2, 2, 4))
UNET = UNet(LEVELS, modulate_first=False, affine=True, context_width=6, middle_depth=2, groups=4)
NETWORKS = {
    "T5, gated": (t5.LAYOUT, T5Encoder(9, 8, 3, 2, 4, 6)),
    "T5, ReLU": (t5.LAYOUT, T5Encoder(9, 8, 1, 2, 4, 6, "relu")),
    "CLIP's text": (clip.TEXT, CLIPTextEncoder(30, 8, 2, 2, 12, positions=9)),
    "CLIP's text, projected": (clip.TEXT_WITH_PROJECTION, CLIPTextEncoder(30, 8, 1, 4, 12, projection=6)),
    "CLIP": (clip.WHOLE, CLIP(Tower(8, 1, 2, 12), Tower(12, 2, 3, 20, "gelu"), 30, 6, 9, 8, 4, eos_id=29)),
    "CLIP's images": (clip.VISION_WITH_PROJECTION, CLIPVisionEncoder(Tower(8, 2, 2, 12), 8, 4, projection=6)),
    "VAE": (vae.LAYOUT, VAE(channels=(8, 12), blocks=1, decoder_blocks=2, groups=4)),
    "consistency decoder": (decoder.LAYOUT, DecoderUNet(channels=(8, 16), blocks=1, groups=4, time_entries=12)),
    "UNet": (unet.LAYOUT, UNET.clone(time_conditioning="add", pooled=False)),
    "UNet, modulated": (unet.LAYOUT, UNET.clone(size_ids=6, vector_width=5)),
}


def test_every_layout_is_tried():
    assert {id(layout) for layout in LAYOUTS.values()} == {id(layout) for layout, _ in NETWORKS.values()}


@pytest.mark.parametrize("kind", NETWORKS)
def test_reading_is_the_inverse_of_writing(kind):
    layout, module = NETWORKS[kind]
    table, params = layout.rules(layout.config(module), module), parameters(module)
    written = export_moves(table, params)
    tensors = {}
    for move in written:
        shape = params[move.target] if move.layer is None else params[move.target][1:]
        tensors[move.source] = move.transform.public(np.broadcast_to(np.uint8(0), shape)).shape
    assert len(tensors) == len(written)
    assert import_moves(table, tensors, params) == written
    for name in list(tensors)[:: max(1, len(tensors) // 9)]:
        with pytest.raises(ValueError, match=r"is not filled|lacks layers"):
            import_moves(table, without(name, tensors), params)
