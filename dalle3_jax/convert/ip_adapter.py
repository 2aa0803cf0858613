"""IP-Adapter's files (arXiv 2308.06721), plain and Plus, which have no config.json: fields follow from the shapes.

`image_proj.*` makes the tokens; `ip_adapter.N.to_k_ip` and `to_v_ip` are the keys and values of the UNet's
cross-attentions, where N counts all of its attentions on the way down, then on the way up, then in the middle: 1, 3, 5.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dalle3_jax.convert.folders import UNSAFE
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.networks import Opened
from dalle3_jax.convert.rules import Rule, Transform, linear, norm
from dalle3_jax.convert.shards import Shards
from dalle3_jax.models.image_prompt import ImageAttention, ImagePrompt, image_attentions
from dalle3_jax.models.unet import UNet

__all__ = ["adapter_module", "adapter_rules", "open_adapter"]

Shapes = Mapping[str, tuple[int, ...]]

SHOWN = 3
"""Misfits with a UNet that an error lists; of more it gives the number."""
HEAD_SIZE = 64
"""Of every public resampler: its file does not say it."""
PLAIN, PLUS = "image_proj.proj.weight", "image_proj.latents"
QUERIES = Transform("(1, m, d) -> (m, d)", lambda x: x.squeeze(0), lambda x: x[None])
OTHERS = {
    "image_proj.proj.0.weight": "IP-Adapter Full Face, or one of a face recogniser's (FaceID)",
    "image_proj.perceiver_resampler.proj_in.weight": "IP-Adapter FaceID Plus",
}
"""Tensors by which adapters are known that cannot be read."""


def open_adapter(path: Path, unet: UNet) -> Opened:
    """An adapter's file for this UNet; of the weights only the header is read.

    Raises ValueError naming the file for one that is none, that could run code, or that is of another model.
    """
    if path.suffix in UNSAFE:
        raise ValueError(
            f"{path} can run code when opened, and is never read: get the same adapter as .safetensors (h94/IP-Adapter "
            "has both), or make it on a machine you trust: open it in PyTorch with weights_only=True, flatten it to "
            "names such as image_proj.proj.weight and ip_adapter.1.to_k_ip.weight and save it by safetensors"
        )
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(f"{path} is no file of an IP-Adapter: give a .safetensors, as ip-adapter_sd15.safetensors")
    shards = Shards([path])
    shapes = {name: shards.shape(name) for name in shards}
    try:
        module = adapter_module(shapes, unet)
        layout = NetworkLayout(lambda config: module, adapter_rules, _no_config)
        return Opened(path, {}, layout, (path,), shards, module, tuple(adapter_rules(shapes, module)))
    except ValueError as error:
        raise ValueError(f"cannot use {path}: {error}") from None


def adapter_module(shapes: Shapes, unet: UNet) -> ImagePrompt:
    """The image prompt of tensors with these shapes; ValueError where they are none, or of another model's UNet."""
    for name, what in OTHERS.items():
        if name in shapes:
            raise ValueError(f"it is {what}, which cannot be read: those that can are IP-Adapter and IP-Adapter Plus")
    if PLAIN not in shapes and PLUS not in shapes:
        raise ValueError(f"it is no IP-Adapter, which has {PLAIN} or {PLUS}")
    attentions, width = image_attentions(unet), unet.context_width
    if errors := [*_attention_errors(shapes, attentions, width)]:
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise ValueError(f"it is an adapter for another model: {'; '.join(errors[:SHOWN])}{more}")
    if PLAIN in shapes:
        out, features = _matrix(shapes, PLAIN)
        if out % width:
            raise ValueError(f"it is an adapter for another model: {PLAIN} gives {out}, no multiple of {width}")
        return ImagePrompt(attentions, features, width, out // width)
    _, tokens, inner = _shape(shapes, PLUS, 3)
    query, wide = (_matrix(shapes, f"image_proj.layers.0.{part}.weight") for part in ("0.to_q", "1.1"))
    features = _matrix(shapes, "image_proj.proj_in.weight")[1]
    if query[0] % HEAD_SIZE or wide[0] % inner:
        raise ValueError(f"its resampler has queries of {query[0]} and a feed-forward of {wide[0]} beside {inner}")
    layers = len({match[1] for name in shapes if (match := re.match(r"image_proj\.layers\.(\d+)\.", name))})
    return ImagePrompt(
        attentions,
        features,
        width,
        tokens,
        kind="resampler",
        layers=layers,
        heads=query[0] // HEAD_SIZE,
        head_size=HEAD_SIZE,
        inner=inner,
        expansion=wide[0] // inner,
    )


def adapter_rules(shapes: Shapes, module: ImagePrompt) -> list[Rule]:
    """The table of an adapter's tensors."""
    table = _linear_rules() if module.kind == "linear" else _resampler_rules()
    for place in _places(module.attentions):
        for theirs, ours in KEYS.items():
            table += linear(f"ip_adapter.{place.number}.{theirs}", f"{place.name}.{ours}[{place.layer}]", bias=False)
    return table


class Place(NamedTuple):
    """A cross-attention: its number in a file, our transformer's name, the layer in it, and the width of its heads."""

    number: int
    name: str
    layer: int
    width: int


KEYS = {"to_k_ip": "key", "to_v_ip": "value"}


def _places(attentions: Iterable[ImageAttention]) -> Iterator[Place]:
    """The cross-attentions as files number them: every second attention, the way down first, the middle last."""

    def order(at: ImageAttention) -> tuple[int, ...]:
        way, *place = re.fullmatch(r"(down|up|middle)_?(\d*)_?(\d*)_transformer", at.place).groups()  # pyright: ignore
        if way == "middle":
            return (2,)
        level, number = map(int, place)
        return (0, level, number) if way == "down" else (1, -level, number)

    number = 1
    for at in sorted(attentions, key=order):
        for layer in range(at.layers):
            yield Place(number, at.place, layer, at.heads * at.head_size)
            number += 2


def _attention_errors(shapes: Shapes, attentions: Iterable[ImageAttention], width: int) -> Iterator[str]:
    """Errors for keys and values of a file that are not those of a UNet's cross-attentions."""
    places = [*_places(attentions)]
    names = {f"ip_adapter.{place.number}.{kind}.weight": place for place in places for kind in KEYS}
    for name, place in names.items():
        if shapes.get(name) != (place.width, width):
            yield f"{name} is {shapes.get(name, 'missing')}, the UNet's {place.name} takes {(place.width, width)}"
    for name in sorted(name for name in shapes if name.startswith("ip_adapter.") and name not in names):
        yield f"{name} has no place in the UNet, which has {len(places)} cross-attentions"


def _linear_rules() -> list[Rule]:
    return [*linear("image_proj.proj", "project"), *norm("image_proj.norm", "norm")]


def _resampler_rules() -> list[Rule]:
    layer = "image_proj.layers.{layer}"
    return [
        Rule(PLUS, "queries", QUERIES),
        *linear("image_proj.proj_in", "project_in"),
        *norm(f"{layer}.0.norm1", "layers.norm_features[{layer}]"),
        *norm(f"{layer}.0.norm2", "layers.norm_queries[{layer}]"),
        *linear(f"{layer}.0.to_q", "layers.query[{layer}]", bias=False),
        *linear(f"{layer}.0.to_kv", "layers.key_value[{layer}]", bias=False),
        *linear(f"{layer}.0.to_out", "layers.out[{layer}]", bias=False),
        *norm(f"{layer}.1.0", "layers.norm[{layer}]"),
        *linear(f"{layer}.1.1", "layers.wide[{layer}]", bias=False),
        *linear(f"{layer}.1.3", "layers.narrow[{layer}]", bias=False),
        *linear("image_proj.proj_out", "project_out"),
        *norm("image_proj.norm_out", "norm"),
    ]


def _matrix(shapes: Shapes, name: str) -> tuple[int, ...]:
    return _shape(shapes, name, 2)


def _shape(shapes: Shapes, name: str, axes: int) -> tuple[int, ...]:
    """A tensor's shape; ValueError where it is missing or has other axes."""
    shape = shapes.get(name, ())
    if len(shape) != axes or 0 in shape:
        raise ValueError(f"{name} is {shape or 'missing'}, not a tensor of {axes} axes")
    return shape


def _no_config(module: Any) -> dict[str, Any]:
    raise ValueError("an image prompt has no config.json")
