# ruff: noqa: E501 (lines of a compiler)
"""What is read from compiled programs: products as closed forms have them, loops multiplied out, collectives once."""

import jax
import jax.numpy as jnp
import pytest

from dalle3_jax.nn.attention import attend
from dalle3_jax.planning import costs, hlo
from dalle3_jax.planning.estimate import tracing_for_tpu
from dalle3_jax.planning.flops import count_tap_products, jaxpr_flops


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return costs.program_costs(hlo.parse_hlo(text), 1), jaxpr_flops(jax.make_jaxpr(function)(*arguments))


def product(x, w):
    return x @ w


def loss(w, x):
    return jnp.sum(jnp.tanh(x @ w))


def scanned(ws, x):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]


def nested(ws, x):
    return jax.lax.scan(lambda x, w: (jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ w), x), None), x, ws)[0]


def convolved(k, x):
    return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


MATRIX = 2 * 8 * 64 * 64
TAPS = 3 * 8 - 2  # along a side of eight, where the first and the last of three taps once meet padding
CONV = 2 * (2 * TAPS * TAPS) * (8 * 16)
PROGRAMS = {
    "dense": (product, ((8, 64), (64, 64)), MATRIX),
    "gradient": (jax.grad(loss, (0, 1)), ((64, 64), (8, 64)), 3 * MATRIX),
    "scan": (scanned, ((5, 64, 64), (8, 64)), 5 * MATRIX),
    "scan_gradient": (jax.grad(lambda ws, x: scanned(ws, x).sum()), ((5, 64, 64), (8, 64)), 15 * MATRIX),
    "nested": (nested, ((5, 64, 64), (8, 64)), 15 * MATRIX),
    "convolution": (convolved, ((3, 3, 8, 16), (2, 8, 8, 8)), CONV),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_products_are_counted_as_closed_forms_have_them_compiled_and_traced(name):
    function, shapes, expected = PROGRAMS[name]
    found, traced = compiled(function, *shapes)
    assert found.flops == expected
    if name != "nested":  # a fori_loop's length is not in its jaxpr's parameters when it is a while
        assert traced == expected


def test_a_tpu_s_kernel_of_attention_counts_what_it_computes_twice():
    """Two products as large as the scores, and in the backward pass seven, of which three were computed before."""
    tokens = jax.ShapeDtypeStruct((2, 640, 3, 64), jnp.bfloat16)
    one = 2.0 * 2 * 640 * 640 * 3 * 64

    def total(q, k, v):
        return jnp.sum(attend(q, k, v, scale=0.125).astype(jnp.float32))

    def products() -> list[float]:
        traced = [jax.make_jaxpr(function)(*[tokens] * 3) for function in (total, jax.grad(total, (0, 1, 2)))]
        return [jaxpr_flops(jaxpr) / one for jaxpr in traced]

    assert products()[0] == 2
    with tracing_for_tpu():  # the forward kernel says its FLOPs, and counts the softmax's
        assert products() == pytest.approx([2, 2 + 7], abs=0.05)


def test_gradients_of_convolutions_cost_two_forward_passes():
    found, traced = compiled(jax.grad(lambda k, x: convolved(k, x).sum() ** 2, (0, 1)), (3, 3, 8, 16), (2, 8, 8, 8))
    assert found.flops == traced == 3 * CONV


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ((8, 3, 8, 1, 1, (1, 1)), 22),  # same
        ((8, 3, 6, 1, 0, (1, 1)), 18),  # valid
        ((8, 3, 4, 2, 0, (1, 1)), 11),  # halved, padded behind
        ((4, 3, 8, 1, 1, (2, 1)), 11),  # and its transpose, which meets as many
        ((8, 3, 4, 1, 0, (1, 2)), 12),  # every other input
        ((1, 4, 4, 1, 3, (1, 1)), 4),  # a batch of four that a compiler writes as a window over padding
        ((8, 3, 4, 1, -2, (1, 1)), 12),  # inputs cut off
    ],
)
def test_taps_are_counted_where_they_meet_numbers(axis, expected):
    assert count_tap_products(*axis) == expected


def test_a_strided_convolution_costs_the_same_read_and_traced():
    def halved(k, x):
        return jax.lax.conv_general_dilated(x, k, (2, 2), ((0, 1), (0, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC"))

    found, traced = compiled(jax.grad(lambda k, x: halved(k, x).sum() ** 2, (0, 1)), (3, 3, 8, 16), (2, 8, 8, 8))
    assert found.flops == traced == 3 * 2 * (2 * 11 * 11) * (8 * 16)


def test_memory_traffic_is_what_operations_outside_of_fusions_read_and_write():
    found, _ = compiled(lambda x: jnp.tanh(x) * 2 + 1, (1024, 1024))
    assert found.bytes == pytest.approx(2 * 4 * 1024**2, rel=0.01)


TPU = """HloModule step, is_scheduled=true

%region_0 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%fused_start (p: bf16[16,64]) -> bf16[256,64] {
  %p = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[256,64]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=1, replica_groups=mesh['a'=16,'b'=4] {'a'}, dimensions={0}
}

%async_collective_fusion.1 (q: bf16[16,64]) -> bf16[256,64] {
  %q = bf16[16,64]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[256,64]{1,0} all-gather(%q), channel_id=1, replica_groups=mesh['a'=16,'b'=4] {'a'}, dimensions={0}
}

%all-reduce-scatter.1 (r: bf16[256,64]) -> bf16[16,64] {
  %r = bf16[256,64]{1,0} parameter(0)
  %all-reduce.9 = bf16[256,64]{1,0} all-reduce(%r), channel_id=9, replica_groups={{0,1,2,3}}, to_apply=%region_0
  ROOT %cut = bf16[16,64]{1,0} slice(%all-reduce.9), slice={[0:16], [0:64]}
}

%body (s: (s32[], bf16[64,64])) -> (s32[], bf16[64,64]) {
  %s = (s32[], bf16[64,64]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %w = bf16[64,64]{1,0} get-tuple-element(%s), index=1
  %reduce-scatter.1 = bf16[16,64]{1,0} reduce-scatter(%w), channel_id=4, replica_groups=[16,4]<=[64], dimensions={0}, to_apply=%region_0
  ROOT %t = (s32[], bf16[64,64]{1,0}) tuple(%i, %w)
}

%condition (c: (s32[], bf16[64,64])) -> pred[] {
  %c = (s32[], bf16[64,64]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%c), index=0
  %bound = s32[] constant(7)
  ROOT %less = pred[] compare(%n, %bound), direction=LT
}

ENTRY %main (x: bf16[16,64], y: bf16[256,64], z: (s32[], bf16[64,64])) -> bf16[16,64] {
  %x = bf16[16,64]{1,0} parameter(0)
  %y = bf16[256,64]{1,0} parameter(1)
  %z = (s32[], bf16[64,64]{1,0}) parameter(2)
  %async-collective-start = (bf16[16,64]{1,0}, /*index=1*/bf16[256,64]{1,0}, u32[]{:S(2)}) fusion(%x), kind=kCustom, calls=%fused_start
  %beside = bf16[256,64]{1,0} fusion(%x), kind=kOutput, calls=%async_collective_fusion.1
  %async-collective-done = bf16[256,64]{1,0} fusion(%async-collective-start), kind=kCustom, calls=%async_collective_fusion.1
  %loop = (s32[], bf16[64,64]{1,0}) while(%z), condition=%condition, body=%body
  %noted = (s32[], bf16[64,64]{1,0}) while(%z), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %fast = bf16[256,64]{1,0:T(8,128)S(1)} copy(%y)
  %table = f32[512,1024]{1,0} constant({...})
  %flash = bf16[2,4,1024,64]{3,2,1,0} custom-call(%x), custom_call_target="tpu_custom_call", backend_config={"custom_call_config":{"body":"x"},"cost_estimate":{"flops":"1000","transcendentals":"1"}}
  %k = bf16[64,32,1]{1,0,2} parameter(3)
  %q = bf16[4,10,32]{1,2,0} parameter(4)
  %product = bf16[4,10,64]{1,2,0} convolution(%k, %q), window={size=4 pad=3_3 rhs_reversal=1}, dim_labels=bf0_0oi->0fb
  %s = bf16[2,4,1024,64]{3,2,1,0} parameter(5)
  %t = bf16[2,4,512,64]{3,2,1,0} parameter(6)
  %flash_mha_bwd_dq_block_q_major_512.1 = bf16[2,4,1024,64]{3,2,1,0} custom-call(%s, %t), custom_call_target="tpu_custom_call"
  %flash_mha_bwd_dkv_block_q_major_512.2 = bf16[2,4,512,64]{3,2,1,0} custom-call(%s, %t), custom_call_target="tpu_custom_call"
  %other.3 = bf16[2,4,512,64]{3,2,1,0} custom-call(%s, %t), custom_call_target="tpu_custom_call"
  ROOT %scattered = bf16[16,64]{1,0} fusion(%beside), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_collectives_of_a_tpu_program_are_counted_once_each_and_as_often_as_loops_run():
    found = costs.program_costs(hlo.parse_hlo(TPU), 64)
    whole = 256 * 64 * 2
    assert found.collectives_by_kind() == {
        "all-gather": {"count": 1, "bytes": whole + 16 * 64 * 2 - 16 * 64 * 2, "moved": whole * 15 / 16},
        "reduce-scatter": {
            "count": 13,
            "bytes": 12 * 64 * 64 * 2 + whole,
            "moved": 12 * 64 * 64 * 2 * 3 / 4 + whole * 3 / 4,
        },
    }
    assert found.constants.count(512 * 1024 * 4) == 1


def test_kernels_count_as_they_say_or_as_is_known_of_them_and_padding_does_not():
    found = costs.program_costs(hlo.parse_hlo(TPU), 64)
    said, product, scores = 1000, 2 * 4 * 10 * 64 * 32, 2 * (2 * 4 * 1024 * 512 * 64)
    assert found.flops == said + product + (3 + 4) * scores
    assert found.unknown == ("other.3",)


def test_arrays_in_a_tpu_s_vector_memory_are_no_memory_traffic():
    assert hlo.shape_bytes("bf16[256,64]{1,0:T(8,128)S(1)}") == 32768
    assert hlo.shape_bytes("bf16[256,64]{1,0:T(8,128)S(1)}", on_chip=False) == 0
    assert hlo.shape_bytes("(f32[2,3]{1,0}, /*index=1*/pred[5]{0}, u32[])") == 24 + 5 + 4


def test_a_loop_without_a_length_is_named():
    with pytest.raises(ValueError, match="how often its loop loop runs"):
        costs.program_costs(hlo.parse_hlo(TPU.replace("%bound = s32[] constant(7)", "%bound = s32[] parameter(1)")), 64)
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse_hlo("HloModule nothing")
