"""What tiles cost and change: python scripts/tiled_decoding.py [--checkpoint demo] [--tile 64] [--halo 8]

Three tables for a release's VAE and, where it has one, its decoder, and docs/images/tiled_decoding.png of two of them:
  memory       what the compiled program takes beside arguments and result, by the side of the image
  reach        how many cells away the image changes when a cell of its latents does
  difference   of tiled from whole images of drawn scenes, by the halo; tiles are at most three quarters of a side
"""

import argparse
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.scenes.render import render_scene
from dalle3_jax.data.transforms import normalise_pixels
from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.suites import load_suite, pick_evenly
from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.files import write_whole
from dalle3_jax.loading.locate import find_release
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.setting_values import HALO
from dalle3_jax.pipeline.specs import DecoderSpec
from dalle3_jax.pipeline.tiling import apply_in_tiles
from dalle3_jax.stages.stage import apply_network
from dalle3_jax.typing import Array, Params

SIDES, COMPARED, HALOS, PICTURES = (256, 512, 1024, 2048), (256, 512), (1, 2, 3, 4, 6, 8), 2
OUT = Path(__file__).parents[1] / "docs" / "images" / "tiled_decoding.png"

Memories = dict[tuple[str, str], list[float]]
Differences = dict[str, dict[int, tuple[float, float]]]


@dataclass(frozen=True)
class TiledModule:
    """A network that is applied window by window, with a halo of our choice; what is sampled knows nothing of it."""

    module: Any
    tile: int
    halo: int

    def apply(self, variables: Params, *inputs: Array, method: str | None = None) -> Array:
        """What the network gives, blended."""
        function = functools.partial(self.module.apply, variables, method=method)
        return apply_in_tiles(function, tile=self.tile, halo=self.halo)(*inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


class DecodingNetwork(NamedTuple):
    """Something that decodes: `program` makes a jitted (params, the VAE's latents, seeds) -> images of its module."""

    name: str
    params: Params
    module: Any
    program: Callable[[Any], Any]


def decoding_networks(release: Release) -> list[DecodingNetwork]:
    """The release's VAE and its decoder; says so where there is none."""

    def decoding(vae: Any) -> Any:
        return jax.jit(lambda params, latents, seeds: apply_network(vae, params, latents, method="decode"))

    found = [DecodingNetwork("VAE", release.params["vae"], release.modules["vae"], decoding)]
    module = release.modules.get("decoder")
    if not isinstance(module, DecoderUNet):
        print("this release has no decoder beside its VAE: only that is measured")
        return found
    decoder = DecoderSpec.from_decoding(module, release.decoders["decoder"])

    def drawing(module: Any) -> Any:
        other = replace(decoder, module=module)
        return jax.jit(
            lambda p, z, seeds: programs.sample_decoder(p, decoder.latent.normalise(z), seeds, decoder=other)
        )

    return [
        *found,
        DecodingNetwork(f"{release.decoders['decoder'].kind} decoder", release.params["decoder"], module, drawing),
    ]


def encode_scenes(release: Release, side: int) -> Array:
    """The VAE's latents of a few drawn scenes."""
    prompts = pick_evenly(load_suite(), 3 * PICTURES)[::3]
    images = np.stack(
        [normalise_pixels(render_scene(WHOLE, prompt.scene, side, side)) for prompt in prompts if prompt.scene]
    )
    return jax.jit(functools.partial(apply_network, release.modules["vae"], method="encode"))(
        release.params["vae"], images
    )[0]


def pixel_levels(network: DecodingNetwork, module: Any) -> Callable[[Array], np.ndarray]:
    """Latents -> images in levels of 0 to 255, not rounded."""
    program = network.program(module)

    def run(latents: Array) -> np.ndarray:
        images = program(network.params, latents, np.arange(len(latents), dtype=np.uint32))
        return np.clip(np.asarray(images, np.float64), -1, 1) * 127.5 + 127.5

    return run


def program_memory(network: DecodingNetwork, module: Any, shape: tuple[int, ...]) -> tuple[float, float]:
    """MiB of a program that decodes latents of a shape, compiled only: its own, its arguments' and result's."""
    latents, seeds = jax.ShapeDtypeStruct(shape, jnp.float32), np.zeros(shape[0], np.uint32)
    found = network.program(module).lower(network.params, latents, seeds).compile().memory_analysis()
    return found.temp_size_in_bytes / 2**20, (found.argument_size_in_bytes + found.output_size_in_bytes) / 2**20


def measure_memory(
    networks: list[DecodingNetwork], tile: int, halo: int, shapes: Mapping[int, tuple[int, ...]]
) -> Memories:
    """(Network, whole or tiled) -> MiB at every side; printed too."""
    result, lines = {}, []
    for network in networks:
        ways = {"whole": network.module, f"tiles of {tile}, halo {halo}": TiledModule(network.module, tile, halo)}
        for how, module in ways.items():
            own, arrays = zip(*(program_memory(network, module, shape) for shape in shapes.values()), strict=True)
            result[network.name, how] = list(own)
            lines.append([network.name, how, *(f"{a:,.0f} + {b:,.0f}" for a, b in zip(own, arrays, strict=True))])
    print("\nMiB of the program + its arguments and result\n")
    print(markdown_table(["network", "decoding", *(f"{side} px" for side in shapes)], lines), flush=True)
    return result


def change_by_distance(network: DecodingNetwork, latents: Array, std: Array) -> np.ndarray:
    """The largest change of an image, in levels, at each distance from a cell that moves by a standard deviation."""
    decode, (_, side, _, channels) = pixel_levels(network, network.module), latents.shape
    moved = latents.at[:, side // 2, side // 2].add(std * jax.random.normal(jax.random.key(2), (channels,)))
    change = np.abs(decode(moved) - decode(latents)).max(axis=(0, 3))
    cells = change.reshape(side, -1, side, len(change) // side).max(axis=(1, 3))
    distance = np.abs(np.indices(cells.shape) - side // 2).max(axis=0)
    return np.array([cells[distance == away].max() for away in range(side // 2)])


def print_reach(networks: list[DecodingNetwork], latents: Array, std: Array) -> None:
    """Prints how far away a change is still of so many levels."""
    limits, lines = (0.5, 0.05, 0.005), []
    for network in networks:
        change = change_by_distance(network, latents, std)
        lines.append([network.name, *(str(np.flatnonzero(change >= limit).max(initial=0)) for limit in limits)])
    print("\nReach in cells: how far away the image still changes by so many levels\n")
    print(markdown_table(["network", *map(str, limits)], lines), flush=True)


def measure_differences(networks: list[DecodingNetwork], latents: Mapping[int, Array], tile: int) -> Differences:
    """Network -> halo -> (largest, mean) difference in levels at the largest of the sides; printed for all of them."""
    result, lines = {}, []
    for network in networks:
        for side, given in latents.items():
            cells = min(tile, 3 * given.shape[1] // 4)
            expected = pixel_levels(network, network.module)(given)
            result[network.name] = {}
            for halo in (halo for halo in HALOS if cells >= 2 * halo + 2):
                apart = np.abs(pixel_levels(network, TiledModule(network.module, cells, halo))(given) - expected)
                result[network.name][halo] = float(apart.max()), float(apart.mean())
                sizes = map(str, (side, cells, halo))
                lines.append([network.name, *sizes, f"{apart.max():.3f}", f"{apart.mean():.5f}"])
    print("\nDifference from the whole image, in levels\n")
    print(markdown_table(["network", "side, px", "tile", "halo", "largest", "mean"], lines), flush=True)
    return result


def plot_png(memory: Memories, differences: Differences) -> bytes:
    """A PNG: memory by the side of the image, whole and tiled; the difference by the halo."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = dict(zip(differences, (plots.SEEN, plots.HELD_OUT), strict=False))
    for (name, how), values in memory.items():
        style = "-" if how == "whole" else "--"
        left.plot(SIDES, values, style, marker=".", color=colours[name], label=f"{name}, {how}")
    left.set(xscale="log", yscale="log", xlabel="side of the image, px", ylabel="memory beside the images, MiB")
    left.set_xticks(SIDES, map(str, SIDES))
    left.xaxis.set_minor_locator(NullLocator())
    for name, found in differences.items():
        for what, style, values in zip(("largest", "mean"), ("-", ":"), zip(*found.values(), strict=True), strict=True):
            right.plot(list(found), values, style, marker=".", color=colours[name], label=f"{name}, {what}")
    right.axhline(0.5, color=plots.CONTROL, linewidth=1.2, label="half a level")
    right.set(yscale="log", xlabel="halo, cells", ylabel=f"difference at {COMPARED[-1]} px, levels of 255")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    return plots.figure_png(figure)


def main() -> None:
    """Measures, prints and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="demo", help="a release with a VAE (default: the demo)")
    parser.add_argument("--tile", type=int, default=64, help="side of a tile in cells of the latents (default 64)")
    parser.add_argument("--halo", type=int, default=HALO, help=f"the halo in cells (default {HALO})")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    release = load_release(find_release(arguments.checkpoint))
    if release.latent is None or "vae" not in release.modules:
        raise SystemExit(f"the release {arguments.checkpoint} has no VAE, or says nothing of its latents")
    latent, found = release.latent, decoding_networks(release)
    shapes = {side: (1, side // latent.factor, side // latent.factor, latent.channels) for side in SIDES}
    memory = measure_memory(found, arguments.tile, arguments.halo, shapes)
    latents = {side: encode_scenes(release, side) for side in COMPARED}
    print_reach(found, latents[COMPARED[-1]], 1 / jnp.asarray(latent.scale))
    apart = measure_differences(found, latents, arguments.tile)
    if not plots.has_matplotlib():
        raise SystemExit(plots.INSTALL)
    write_whole(arguments.out, plot_png(memory, apart))
    print(f"\n{arguments.out}")


if __name__ == "__main__":
    main()
