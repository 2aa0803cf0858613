"""`dalle3-jax evaluate decoders`: what each decoder keeps of pictures, how it spells, and what it costs."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from dalle3_jax.commands.album import Album, slug
from dalle3_jax.commands.sample import Parser
from dalle3_jax.commands.scoring import FAILURES
from dalle3_jax.data.scenes import FIRST, render
from dalle3_jax.data.sources import ScenesSource
from dalle3_jax.data.transforms import decode, unit
from dalle3_jax.pictures import MAX_SIDE, png_bytes, write_whole

if TYPE_CHECKING:
    from dalle3_jax.evaluation.decoding import Decode, Judges, Latents, Study
    from dalle3_jax.evaluation.prompts import Prompt
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate decoders --decoders runs/demo/decoder        with the teacher of the shipped decoder
  dalle3-jax evaluate decoders --count 100 --sizes 128 --teacher-count 0

Latents come from true pictures with drawn words, from scenes as the base model would have made them, and from prompts.
Each decoder gets the same ones with the same seeds. A teacher (a decoder that was not distilled) takes part twice: in
one step, which the report calls regression, and in many.

OUTDIR holds report.md (what is printed), report.json (that, and the values of every picture), plots, and zoomed
pictures side by side; all of it is written anew after each source."""

SAMPLES = "consistency, 2 steps, samples"  # at a temperature of 1, whatever the decoder's own is
WORDED = {"of": "whole", "words": 1.0}
STUDIED = 80  # pictures of each size after the first
SLOW = 50  # pictures of sources after the first that a decoder in many steps makes; none of larger ones
STRENGTH, STEPS = 0.3, 8  # of the base model's own latents
SOURCES = (
    "Encoded latents are of held-out scenes with drawn words. Re-sampled ones are of scenes held out of the demo's "
    f"world, noised to t = {STRENGTH} and brought back by the base model in {STEPS} steps: they are its own, and the "
    "truth is still known. Generated ones are the base model's for the captions of those scenes. Regression is the "
    "teacher, a decoder that was not distilled, in one step: the mean of all pictures that the latents may stand for."
)


class Plan(NamedTuple):
    """What is measured: sources (side, how to make it), decoders, the limits of slow ones, judges, what is missing."""

    sources: list[tuple[int, Callable[[], "Latents"]]]
    decoders: Mapping[str, "Decode"]
    limits: Mapping[str, int]
    judges: "Judges"
    missing: list[str]
    settings: dict[str, Any]


def parser() -> Parser:
    """The command's arguments."""
    found = Parser(
        "dalle3-jax evaluate decoders",
        description="Compare the decoders of a release: what they keep of pictures, how they spell, and their time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    add("--decoders", nargs="+", default=[], metavar="PATH", help="releases or stages whose decoders join in")
    add("--count", type=int, default=300, metavar="N", help="pictures of each source (default 300)")
    add("--steps", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="of the consistency decoder (1 2 4)")
    add("--teacher-steps", type=int, default=50, metavar="N", help="of a decoder that is not distilled (default 50)")
    told = f"pictures of the first source that it makes in so many steps (default 300); {SLOW} of others; 0: none"
    add("--teacher-count", type=int, default=300, metavar="N", help=told)
    told = f"sides of pictures with words; after the first, at most {STUDIED} pictures each (128 192 256 384)"
    add("--sizes", type=int, nargs="+", default=[128, 192, 256, 384], metavar="N", help=told)
    add("--seed", type=int, default=1, metavar="N", help="of scenes and noise (default 1)")
    add("--reader", default="reader", metavar="PATH", help="release of a scene reader (default: the shipped)")
    told = "pictures of 128x128 decoded at once, fewer of larger ones (default 8)"
    add("--batch-size", type=int, default=8, metavar="N", help=told)
    add("--outdir", default="decoders", metavar="DIR", help="folder to write to (default decoders)")
    return found


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    arguments = parser().parse_args(argv)
    try:
        check(arguments)
        pipeline = load(arguments.checkpoint, arguments.decoders)
        plan, folder = prepare(arguments, pipeline), Album(arguments.outdir).folder
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for line in plan.missing:
        print(f"note: not measured: {line}", file=sys.stderr)
    from dalle3_jax.evaluation.decoder_plots import markdown

    study = None
    try:
        for study in studies(plan, arguments.batch_size):
            write(study, folder)
    except FAILURES as error:
        kept = f"what was measured before is in {folder}" if study else "nothing was measured"
        print(f"error: {error}; {kept}", file=sys.stderr)
        return 1
    assert study is not None  # there is always the first size
    print(markdown(study))
    print(f"wrote {folder}/report.md, report.json, plots and zoomed pictures")
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError with all that is wrong with the numbers."""
    least = {"count": 6, "teacher_steps": 2, "teacher_count": 0, "seed": 0, "batch_size": 1}
    given = [(name, getattr(arguments, name), low) for name, low in least.items()]
    given += [("steps", steps, 1) for steps in arguments.steps]
    found = [f"--{name.replace('_', '-')} {value} must be at least {low}" for name, value, low in given if value < low]
    if arguments.seed + arguments.count > 2**32:
        found.append(f"--seed {arguments.seed} must be at most {2**32 - arguments.count}, for the pictures that follow")
    found += [f"--sizes {side}: at most {MAX_SIDE}" for side in arguments.sizes if side > MAX_SIDE]
    for name in ("steps", "sizes"):
        if len(set(values := getattr(arguments, name))) < len(values):
            found.append(f"--{name} {' '.join(map(str, values))}: each once")
    if found:
        raise ValueError("; ".join(found))


def load(checkpoint: str, further: Sequence[str]) -> "Pipeline":
    """The pipeline with the decoders of further releases; jax is imported here, after the numbers were checked."""
    from dalle3_jax.commands.runtime import enable_compilation_cache
    from dalle3_jax.pipeline import Pipeline

    enable_compilation_cache()
    return Pipeline.load(checkpoint, decoders=further)


def prepare(arguments: argparse.Namespace, pipeline: "Pipeline") -> Plan:
    """What will be measured; ValueError for what cannot be."""
    import jax

    from dalle3_jax.evaluation import plots
    from dalle3_jax.evaluation.decoding import Judges
    from dalle3_jax.evaluation.detector import Reader
    from dalle3_jax.evaluation.ocr import INSTALL
    from dalle3_jax.evaluation.word_reader import find_word_reader

    sources = sources_of(arguments, pipeline)
    judges = Judges(find_word_reader(), Reader.load(arguments.reader))
    decoders, missing = chosen(arguments, pipeline)
    missing += [] if judges.words else [f"drawn words: {INSTALL}"]
    missing += [] if plots.available() else [f"plots: {plots.INSTALL}"]
    used = {"checkpoint": pipeline.release.digest, "device": jax.devices()[0].device_kind, "sources": SOURCES}
    used |= {"word_reader": judges.words.name if judges.words else ""}
    used |= {name: getattr(arguments, name) for name in ("count", "seed", "sizes", "batch_size", "teacher_count")}
    return Plan(sources, decoders, {teacher(arguments): arguments.teacher_count}, judges, missing, used)


def sources_of(arguments: argparse.Namespace, pipeline: "Pipeline") -> list[tuple[int, Callable[[], "Latents"]]]:
    """(Side of the pictures, what makes the latents) of each source; ValueError for one that cannot be made."""
    from dalle3_jax.evaluation.suites import drawn

    count, factor = arguments.count, pipeline.system.latent.factor
    if wrong := [str(side) for side in arguments.sizes if side < factor or side % factor]:
        raise ValueError(f"--sizes {' '.join(wrong)}: sides must be multiples of {factor}")
    given = {"seed": arguments.seed, "batch_size": arguments.batch_size}
    found: list[tuple[int, Callable[[], Latents]]] = []
    for side in arguments.sizes:
        scenes = ScenesSource(WORDED, arguments.seed, side, side, split="held_out")
        most = min(count, STUDIED) if found else count
        found.append((side, functools.partial(encoded, pipeline, scenes, count=most, **given)))
    prompts = drawn(FIRST, count, seed=arguments.seed)
    pipeline.check([pipeline.request(prompt.text, seed=arguments.seed + i) for i, prompt in enumerate(prompts)])
    side = max(pipeline.defaults["size"])
    return [*found, *((side, functools.partial(make, pipeline, prompts, **given)) for make in (resampled, generated))]


def chosen(arguments: argparse.Namespace, pipeline: "Pipeline") -> tuple[dict[str, "Decode"], list[str]]:
    """The decoders to compare, by label, and which of those that could be compared the release lacks."""
    wanted: dict[str, tuple[str, int | None, float | None]] = {"vae": ("vae", None, None)}
    wanted |= {"refiner": ("refiner", None, None)}
    wanted |= {f"consistency, {n} step{'s' * (n > 1)}": ("consistency", n, None) for n in arguments.steps}
    wanted |= {SAMPLES: ("consistency", 2, 1.0), "regression": ("diffusion", 1, None)}
    wanted |= {teacher(arguments): ("diffusion", arguments.teacher_steps, None)}
    found: dict[str, Decode] = {}
    for label, (name, steps, temperature) in wanted.items():
        if name in pipeline.decoders:
            found[label] = functools.partial(decoded, pipeline, name, steps, temperature)
    lacking = dict.fromkeys(name for name, *_ in wanted.values() if name not in pipeline.decoders)
    return found, [f"{name}: this release has no such decoder; add one by --decoders PATH" for name in lacking]


def decoded(
    pipeline: "Pipeline",
    name: str,
    steps: int | None,
    temperature: float | None,
    latents: np.ndarray,
    seeds: np.ndarray,
) -> np.ndarray:
    """The images that a decoder makes of latents, on the host."""
    import jax.numpy as jnp

    how = {"decoder": name, "steps": steps, "temperature": temperature}
    return np.asarray(pipeline.decode(jnp.asarray(latents), seeds.tolist(), **how))


def teacher(arguments: argparse.Namespace) -> str:
    """The label of the decoder that was not distilled, in all its steps."""
    return f"teacher, {arguments.teacher_steps} steps"


def studies(plan: Plan, batch_size: int) -> Iterator["Study"]:
    """Measures source after source; all that is known after each."""
    from dalle3_jax.evaluation.decoding import Study, measure

    done = []
    for side, make in plan.sources:
        rows, size = make(), fewer(batch_size, side)
        most = SLOW if side <= plan.sources[0][0] else 0
        limits = {label: min(limit, most) if done else limit for label, limit in plan.limits.items()}
        found = measure(rows, plan.decoders, plan.judges, batch_size=size, limits=limits, bar=bar)
        done.append((rows, found))
        yield Study(plan.settings, list(done), plan.missing)


def fewer(batch_size: int, side: int) -> int:
    """How many pictures of this side have as many pixels as a batch of 128x128."""
    return max(1, batch_size * 128**2 // side**2)


def bar(rows: Sequence[Any], text: str) -> Iterable[Any]:
    """A progress bar over batches."""
    return tqdm(rows, desc=text, unit="batch", dynamic_ncols=True, leave=False)


def encoded(pipeline: "Pipeline", source: ScenesSource, *, count: int, seed: int, batch_size: int) -> "Latents":
    """The latents of the first `count` pictures with words."""
    from dalle3_jax.evaluation.decoding import Latents
    from dalle3_jax.evaluation.word_reader import words_of

    name, records = f"encoded, {source.width} px", []
    for index in range(len(source)):
        if len(records) == count:
            break
        if (record := source[index]).labels["words"]:
            records.append(record)
    truths = np.stack([decode(record.image) for record in records])
    latents = encode(pipeline, truths, batch_size, name)
    return Latents(name, latents, seeds_from(seed, count), truths, [words_of(record) for record in records])


def resampled(pipeline: "Pipeline", prompts: Sequence["Prompt"], seed: int, batch_size: int) -> "Latents":
    """Latents of true pictures as the base model would have made them, noised and brought back."""
    import jax.numpy as jnp

    from dalle3_jax.evaluation.decoding import Latents, batches

    name, seeds = "re-sampled", seeds_from(seed, len(prompts))
    truths = np.stack([render(FIRST, prompt.scene, *pipeline.defaults["size"]) for prompt in prompts if prompt.scene])
    latents = encode(pipeline, truths, batch_size, name)
    made = []
    for part in bar(list(batches(len(prompts), batch_size)), f"{name}: base model"):
        texts, own = [prompts[i].text for i in part], seeds[part].tolist()
        made.append(pipeline.resample(jnp.asarray(latents[part]), texts, own, strength=STRENGTH, steps=STEPS))
    return Latents(name, np.concatenate(made)[: len(prompts)], seeds, truths, prompts=prompts)


def generated(pipeline: "Pipeline", prompts: Sequence["Prompt"], seed: int, batch_size: int) -> "Latents":
    """The base model's latents for prompts, as the release samples them."""
    from dalle3_jax.evaluation.decoding import Latents, batches

    made, name = [], "generated"
    for part in bar(list(batches(len(prompts), batch_size)), f"{name}: base model"):
        requests = [pipeline.request(prompts[i].text, seed=seed + int(i)) for i in part]
        condition, null = pipeline.encode([r.prompt for r in requests]), pipeline.encode([""] * len(requests))
        made.append(pipeline.sample_latents(condition, null, requests))
    return Latents(name, np.concatenate(made)[: len(prompts)], seeds_from(seed, len(prompts)), prompts=prompts)


def encode(pipeline: "Pipeline", truths: np.ndarray, batch_size: int, name: str) -> np.ndarray:
    """The means of the VAE's latents of true pictures, as the UNet sees them."""
    import jax

    from dalle3_jax.evaluation.decoding import batches

    vae, latent = pipeline.system.vae, pipeline.system.latent

    @jax.jit
    def latents_of(params: Any, images: Any) -> Any:
        mean, _ = vae.apply({"params": params}, images, method="encode")
        return latent.normalised(mean)

    parts = list(batches(len(truths), fewer(batch_size, truths.shape[1])))
    made = [np.asarray(latents_of(pipeline.params["vae"], unit(truths[part]))) for part in bar(parts, f"{name}: VAE")]
    return np.concatenate(made)[: len(truths)]


def seeds_from(seed: int, count: int) -> np.ndarray:
    """A seed for each picture."""
    return np.arange(seed, seed + count, dtype=np.uint32)


def write(study: "Study", folder: Path) -> None:
    """All files of what is known so far, each written whole."""
    from dalle3_jax.evaluation import decoder_plots, plots

    write_whole(folder / "report.md", decoder_plots.markdown(study).encode())
    write_whole(folder / "report.json", (json.dumps(study.plain(), allow_nan=False) + "\n").encode())
    for rows, found in study.measured:
        if rows.truths is not None:
            write_whole(folder / f"zoom-{slug(rows.source)}.png", png_bytes(decoder_plots.zoom(rows, found)))
    if plots.available():
        for source, rows in study.rows().items():
            write_whole(folder / f"measures-{slug(source)}.png", decoder_plots.panels(rows, source))
        if found := study.letters():
            title = "Words read exactly, by the size of their letters"
            write_whole(folder / "letters.png", decoder_plots.letters(found, title))
