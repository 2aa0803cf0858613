"""Times of our networks on one GPU: the measurements of `scripts/gpu_report.py`, each a function of a `Workload`.

Seconds are medians of calls after the first one, which compiles. FLOPs are those of the traced program's products
without recomputation, of a training step three times those of its forward pass; shares are of the card's own bf16
product, measured in the same run. Weights are random.
"""

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.convert.decoder import decoder_settings
from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.guidance import classifier_free
from dalle3_jax.diffusion.prediction import denoiser
from dalle3_jax.diffusion.schedules import ScaledLinear
from dalle3_jax.diffusion.spacing import sampling_times
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.unet_call import project_condition
from dalle3_jax.pipeline.programs import sample_decoder
from dalle3_jax.pipeline.specs import DecoderSpec
from dalle3_jax.planning.flops import jaxpr_flops
from dalle3_jax.planning.training_step import model_flops, training_program, without_shardings
from dalle3_jax.stages.config_files import find_config, read_config_file
from dalle3_jax.stages.initial_networks import add_initial_sections
from dalle3_jax.training import optimizer, sharding, state
from dalle3_jax.training.step import make_step

__all__ = [
    "FULL",
    "TOY",
    "Figures",
    "Workload",
    "decode",
    "encode_text",
    "matrix_product",
    "sample",
    "train",
    "train_demo",
]

GUIDANCE = 5.0
STD = 0.02
Figures = dict[str, float]
"""`seconds` of a call, and, where they mean something, `tflops` a second and `images` or `captions` a second."""


@dataclass(frozen=True)
class Workload:
    """The networks, and how much each is given at once; `decoder_sides` are in pixels, `config` trains the demo."""

    product: int
    unet: UNet
    latent: int
    context: tuple[int, int]  # tokens of text, and their width
    train_batch: int
    sample_batch: int
    sample_steps: int
    encoder: T5Encoder
    captions: tuple[int, int]  # how many, of so many tokens
    decoder: DecoderUNet
    decoder_sides: tuple[int, ...]
    config: tuple[str, str]  # a config file and its stage
    calls: int


BF16 = jnp.bfloat16
FULL = Workload(
    product=8192,
    unet=UNet(
        levels=(Level(320, 2, 1, 8), Level(640, 2, 1, 8), Level(1280, 2, 1, 8), Level(1280, 2, 0, 8)),
        time_conditioning="add",
        pooled=False,
        dtype=BF16,
    ),
    latent=64,
    context=(77, 768),
    train_batch=32,
    sample_batch=4,
    sample_steps=30,
    encoder=T5Encoder(32_128, width=4096, layers=24, heads=64, head_size=64, mlp_width=10_240, dtype=BF16),
    captions=(64, 128),
    decoder=DecoderUNet(dtype=BF16),
    decoder_sides=(512, 1024),
    config=("demo_gpu", "base"),
    calls=10,
)
"""Stable Diffusion 1's UNet (860 M parameters), T5-XXL's encoder (4.76 B) and OpenAI's consistency decoder (621 M)."""

TOY = Workload(
    product=64,
    unet=UNet(levels=(Level(8, 1, 1, 1),), time_conditioning="add", pooled=False, groups=4, middle_depth=0, dtype=BF16),
    latent=8,
    context=(4, 8),
    train_batch=2,
    sample_batch=2,
    sample_steps=2,
    encoder=T5Encoder(30, width=8, layers=1, heads=1, head_size=8, mlp_width=8, dtype=BF16),
    captions=(2, 4),
    decoder=DecoderUNet((8,), blocks=1, groups=4, time_entries=16, dtype=BF16),
    decoder_sides=(16,),
    config=("tiny", "base"),
    calls=2,
)
"""The same at a size for any CPU: it shows that the report can be made, and no more."""


def matrix_product(size: Workload) -> Figures:
    """The card's own peak: a square product in bfloat16."""
    x = jax.random.normal(jax.random.key(0), (size.product, size.product), BF16)
    seconds = _time_calls(jax.jit(jnp.matmul), x, x, calls=size.calls)
    return {"seconds": seconds, "tflops": 2 * size.product**3 / seconds / 1e12}


def train(size: Workload) -> Figures:
    """A training step of the UNet: forward, backward, clipping, AdamW in float32, moving average."""
    module, (x, t, condition) = size.unet, _unet_inputs(size, size.train_batch)
    batch = {"x": x, "t": t, **condition._asdict()}
    weights = _random_params(module, jnp.float32, x, t, condition)

    def loss_fn(params: Any, frozen: Any, batch: Any, key: Any) -> Any:
        del frozen, key
        condition = Condition(batch["tokens"], batch["mask"], batch["vector"])
        return jnp.mean(jnp.square(_apply(module, params, batch["x"], batch["t"], condition))), {}

    adamw = optimizer.adamw(lambda _: jnp.asarray(1e-4), weight_decay=0.01)
    step = jax.jit(make_step(loss_fn, adamw, ema=0.999), donate_argnums=0)
    create = jax.jit(lambda weights: state.create_state(weights, adamw, jax.random.key(2)), donate_argnums=0)
    flops = 3 * _flops(functools.partial(_apply, module), weights, x, t, condition)
    seconds = _time_steps(step, create(weights), {}, batch, calls=size.calls)
    return _rates(seconds, flops, images=size.train_batch)


def sample(size: Workload) -> Figures:
    """Steps of DDIM with guidance, from noise to latents, in one program; the text's keys are computed once."""
    rows = 2 * size.sample_batch
    module, (x, t, condition) = size.unet, _unet_inputs(size, rows)
    weights = _random_params(module, BF16, x, t, condition)
    schedule, keys = ScaledLinear(), jax.random.split(jax.random.key(2), size.sample_batch)

    def loop(weights: Any, condition: Any, noise: Any, keys: Any) -> Any:
        projected = project_condition(module, weights, condition)
        denoise = denoiser(lambda x, t: _apply(module, weights, x, t, projected), schedule, "eps")
        guided = classifier_free(denoise, GUIDANCE, schedule)
        times = sampling_times(schedule, size.sample_steps)
        return samplers.sample(samplers.SAMPLERS["ddim"], guided, schedule, noise, times, keys)

    arguments = weights, condition, x[: size.sample_batch], keys
    seconds = _time_calls(jax.jit(loop), *arguments, calls=size.calls)
    return _rates(seconds, _flops(loop, *arguments), images=size.sample_batch)


def encode_text(size: Workload) -> Figures:
    """The text encoder over full captions."""
    ids, mask = jnp.ones(size.captions, jnp.int32), jnp.ones(size.captions, bool)
    module = size.encoder
    weights, encode = _random_params(module, BF16, ids, mask), functools.partial(_apply, module)
    seconds = _time_calls(jax.jit(encode), weights, ids, mask, calls=size.calls)
    return _rates(seconds, _flops(encode, weights, ids, mask), captions=size.captions[0])


def decode(size: Workload, side: int) -> Figures:
    """The consistency decoder's two steps for one image of so many pixels a side."""
    spec = DecoderSpec.from_decoding(size.decoder, decoder_settings({}))
    latents = jnp.zeros((1, side // 8, side // 8, 4))
    weights = _random_params(size.decoder, BF16, jnp.zeros((1, side, side, 3)), jnp.zeros(1), latents)
    arguments = weights, latents, jnp.zeros(1, jnp.uint32)
    program = functools.partial(sample_decoder, decoder=spec)
    seconds = _time_calls(program, *arguments, calls=size.calls)
    flops = len(spec.times) * _flops(program, *arguments)  # of one step: their number is no part of the program
    return _rates(seconds, flops, images=1)


def train_demo(size: Workload) -> Figures:
    """The demo's training step on latents that were encoded ahead, as its config for GPUs says it."""
    file = find_config(size.config[0])
    config = read_config_file(file, size.config[1])
    add_initial_sections(config, file)
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    program = training_program(config, mesh, tuple(config.data.size), "latents")
    with jax.set_mesh(mesh):
        arguments = [_random_like(tree) for tree in without_shardings((program.state, program.frozen, program.batch))]
        seconds = _time_steps(program.step, *arguments, calls=size.calls)
    return _rates(seconds, model_flops(program), images=config.train.batch_size)


def _rates(seconds: float, flops: float, **counts: int) -> Figures:
    return {
        "seconds": seconds,
        "tflops": flops / seconds / 1e12,
        **{name: count / seconds for name, count in counts.items()},
    }


def _apply(module: nn.Module, params: Any, *inputs: Any) -> Any:
    return module.apply({"params": params}, *inputs)


def _unet_inputs(size: Workload, rows: int) -> tuple[jax.Array, jax.Array, Condition]:
    tokens, width = size.context
    x = jax.random.normal(jax.random.key(0), (rows, size.latent, size.latent, 4))
    text = jax.random.normal(jax.random.key(1), (rows, tokens, width))
    return x, jnp.full(rows, 500.0), Condition(text, jnp.ones((rows, tokens), bool), jnp.zeros((rows, 1)))


def _random_params(module: nn.Module, dtype: Any, *inputs: Any) -> Any:
    """Random parameters of one type, made on the device without compiling the network's initialisers."""
    shapes = nn.unbox(jax.eval_shape(lambda key: module.init(key, *inputs), jax.random.key(0)))["params"]
    return jax.tree.map(lambda leaf: _random_leaf(leaf.shape, dtype), shapes)


def _random_like(tree: Any) -> Any:
    """Arrays of these shapes: small random numbers, nothing masked, and zeros of whole numbers."""

    def make(leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.abs(_random_leaf(leaf.shape, leaf.dtype))  # second moments are not negative
        return jnp.ones(leaf.shape, bool) if leaf.dtype == bool else jnp.zeros(leaf.shape, leaf.dtype)

    return jax.tree.map(make, tree)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _random_leaf(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    return STD * jax.random.normal(jax.random.key(0, impl="rbg"), shape, dtype)


def _flops(function: Callable[..., Any], *arguments: Any) -> float:
    return jaxpr_flops(jax.make_jaxpr(function)(*arguments))


def _time_calls(function: Callable[..., Any], *arguments: Any, calls: int) -> float:
    """The median of so many calls in seconds, after one that compiles."""
    times = []
    for _ in range(1 + calls):
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def _time_steps(step: Callable[..., Any], current: Any, frozen: Any, batch: Any, *, calls: int) -> float:
    """The same of a training step, whose state is donated to the next one."""
    held = [current]

    def run() -> Any:
        held[0], metrics = step(held[0], frozen, batch)
        return held[0], metrics

    return _time_calls(run, calls=calls)
