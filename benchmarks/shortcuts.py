"""Ways to make an image in less time, against the full loop of the shipped demo, all in turns in one process.

    python -m benchmarks shortcuts [--quick] [--rounds N]

Evaluations are those of the whole UNet on one image; SSIM compares the decoded images with those of the full loop.
"""

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.evaluation.decoders.fidelity import ssim
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.sampling_loop import plan_pieces

FULL = "full loop"
WAYS: Mapping[str, Mapping[str, Any]] = {
    FULL: {},
    "half of the steps": {"steps": 10},
    "guided from 0.2 to 0.8": {"guidance_interval": (0.2, 0.8)},
    "deep cache 2": {"deep_cache": 2},
    "deep cache 3": {"deep_cache": 3},
    "text gate 0.5": {"text_gate": 0.5},
    "deep cache 2, text gate 0.5": {"deep_cache": 2, "text_gate": 0.5},
    "projected guidance": {"guidance_parallel": 0.0},
}
PROMPTS = ("a panda on a beach", "a red car to the left of a blue house", "3 penguins in the snow", "a cat at night")
HEADER = """\
| way | seconds an image | of the full loop (rounds) | evaluations | ms each | SSIM with the full loop |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Score:
    """One way: median seconds an image, its ratio to the full loop in each round, evaluations, mean SSIM."""

    way: str
    seconds: float
    ratios: tuple[float, ...]
    evaluations: int
    ssim: float

    def row(self) -> str:
        """A line of the table."""
        spread = f"{statistics.median(self.ratios):.2f} ({min(self.ratios):.2f} to {max(self.ratios):.2f})"
        each = 1000 * self.seconds / self.evaluations
        return f"| {self.way} | {self.seconds:.3f} | {spread} | {self.evaluations} | {each:.1f} | {self.ssim:.3f} |"


def print_shortcuts(rounds: int, quick: bool) -> list[Score]:
    """Measure every way, print the table and give its scores."""
    ways = {name: WAYS[name] for name in (FULL, "deep cache 2")} if quick else WAYS
    scores = measure_ways(
        demo_pipeline(quick), ways, PROMPTS[: 1 if quick else None], rounds, {"steps": 4 if quick else 20}
    )
    print("\n".join([f"{rounds} rounds, batches of one image", HEADER, *(score.row() for score in scores)]), flush=True)
    return scores


def measure_ways(
    pipeline: Pipeline,
    ways: Mapping[str, Mapping[str, Any]],
    prompts: tuple[str, ...],
    rounds: int,
    common: Mapping[str, Any],
) -> list[Score]:
    """The scores of these settings of the loop; the first way is what the others are compared with."""
    null = pipeline.encode([""])
    conditions = [pipeline.encode([prompt]) for prompt in prompts]
    requests = {
        way: [pipeline.request(prompt, seed=seed, **{**common, **settings}) for seed, prompt in enumerate(prompts)]
        for way, settings in ways.items()
    }

    def sample(way: str) -> list[jax.Array]:
        pairs = zip(conditions, requests[way], strict=True)
        return jax.block_until_ready([pipeline.sample_latents(one, null, [request]) for one, request in pairs])

    images = {
        way: np.concatenate([to_pixels(pipeline.codec.decode(latents)) for latents in sample(way)]) for way in ways
    }
    truths = images[next(iter(ways))]
    times: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way in ways if turn % 2 == 0 else reversed(list(ways)):
            began = time.perf_counter()
            sample(way)
            times[way].append((time.perf_counter() - began) / len(prompts))
    whole = times[next(iter(ways))]
    return [
        Score(
            way,
            statistics.median(times[way]),
            tuple(one / other for one, other in zip(times[way], whole, strict=True)),
            count_evaluations(pipeline, requests[way][0]),
            float(np.mean(ssim(images[way], truths))),
        )
        for way in ways
    ]


def count_evaluations(pipeline: Pipeline, request: Request) -> int:
    """Evaluations of the whole UNet on one image, for one request; samplers that evaluate once a step."""
    sampling = request.sampling
    _, pieces = plan_pieces(pipeline.system, [request], sampling.steps)
    passes = sum(math.ceil(piece.steps / sampling.deep_cache) * (1 + piece.guided) for piece in pieces)
    frozen = any(piece.gated for piece in pieces)
    return passes + frozen * (1 + any(piece.guided for piece in pieces))


def demo_pipeline(quick: bool, depth: int = 1, devices: int = 1) -> Pipeline:
    """The shipped demo; `quick`, or with deeper transformers, under a UNet of random weights."""
    release = open_release("demo")
    unet: Any = release.modules["unet"]
    if quick:
        release = replace_unet(release, unet.clone(levels=(Level(16, 1, depth=depth, heads=2),), groups=4))
    elif depth > 1:
        levels = tuple(replace(level, depth=depth * level.depth) for level in unet.levels)
        release = replace_unet(release, unet.clone(levels=levels, middle_depth=depth * unet.middle_depth))
    return Pipeline(release, mesh=jax.make_mesh((devices,), ("data",)) if devices > 1 else None)


def replace_unet(release: Release, unet: UNet) -> Release:
    """The release with this UNet, its weights drawn at random."""
    inputs = unet.example_inputs(release.modules)
    shapes = nn.unbox(jax.eval_shape(lambda key: unet.init(key, *jax.tree.map(zeros, inputs)), jax.random.key(0)))
    draw = np.random.default_rng(0).standard_normal
    params = jax.tree.map(lambda leaf: jnp.asarray(0.02 * draw(leaf.shape, dtype=np.float32)), shapes["params"])
    return replace(release, modules=release.modules | {"unet": unet}, params=release.params | {"unet": params})


def zeros(leaf: Any) -> jax.Array:
    """An array of an abstract one's shape."""
    return jnp.zeros(leaf.shape, leaf.dtype)
