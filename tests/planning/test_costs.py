# ruff: noqa: E501 (lines of a compiler)
"""What is read from compiled programs: products as closed forms have them, loops multiplied out, collectives once."""

import jax
import jax.numpy as jnp
import pytest

from dalle3_jax.planning import costs, hlo
from dalle3_jax.planning.flops import flops


def compiled(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return costs.measure(hlo.parse(text), 1), flops(jax.make_jaxpr(function)(*arguments))


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
CONV = 2 * (2 * 8 * 8 * 16) * (3 * 3 * 8)
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


def test_gradients_of_convolutions_cost_two_forward_passes():
    found, traced = compiled(jax.grad(lambda k, x: convolved(k, x).sum() ** 2, (0, 1)), (3, 3, 8, 16), (2, 8, 8, 8))
    assert traced == 3 * CONV
    assert 2.5 * CONV < found.flops < 3.6 * CONV  # of the gradient's padding some is counted


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
  ROOT %scattered = bf16[16,64]{1,0} fusion(%beside), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_collectives_of_a_tpu_program_are_counted_once_each_and_as_often_as_loops_run():
    found = costs.measure(hlo.parse(TPU), 64)
    whole = 256 * 64 * 2
    assert found.by_kind() == {
        "all-gather": {"count": 1, "bytes": whole + 16 * 64 * 2 - 16 * 64 * 2, "moved": whole * 15 / 16},
        "reduce-scatter": {
            "count": 13,
            "bytes": 12 * 64 * 64 * 2 + whole,
            "moved": 12 * 64 * 64 * 2 * 3 / 4 + whole * 3 / 4,
        },
    }
    assert found.constants.count(512 * 1024 * 4) == 1
    assert found.flops == 1000


def test_arrays_in_a_tpu_s_vector_memory_are_no_memory_traffic():
    assert hlo.shape_bytes("bf16[256,64]{1,0:T(8,128)S(1)}") == 32768
    assert hlo.shape_bytes("bf16[256,64]{1,0:T(8,128)S(1)}", on_chip=False) == 0
    assert hlo.shape_bytes("(f32[2,3]{1,0}, /*index=1*/pred[5]{0}, u32[])") == 24 + 5 + 4


def test_a_loop_without_a_length_is_named():
    with pytest.raises(ValueError, match="how often its loop loop runs"):
        costs.measure(hlo.parse(TPU.replace("%bound = s32[] constant(7)", "%bound = s32[] parameter(1)")), 64)
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("HloModule nothing")
