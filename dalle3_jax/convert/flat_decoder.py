"""OpenAI's consistency decoder in its flat public layout, which has no config.json: fields follow from the shapes.

Names are as in `down_0_conv_2.gn_1.g`, some files put "blocks." before them; levels count from the image's side in both
directions. The table of times lies in a file of its own, whose only tensor is called `weight`, or among the others.
"""

import itertools
from collections.abc import Collection, Mapping

from dalle3_jax.convert.rules import AS_IS, CONV, LINEAR, Rule, Transform
from dalle3_jax.models.decoder import DecoderUNet

__all__ = ["module", "rules"]

Shapes = Mapping[str, tuple[int, ...]]

TOP = {
    "embed_image.f": ("conv_in", CONV),
    "embed_time.f_1": ("time_embedding.linear_1", LINEAR),
    "embed_time.f_2": ("time_embedding.linear_2", LINEAR),
    "output.gn": ("norm_out", AS_IS),
    "output.f": ("conv_out", CONV),
}
BLOCK = {
    "gn_1": ("norm_1", AS_IS),
    "f_1": ("conv_1", CONV),
    "f_t": ("norm_2.modulation", LINEAR),
    "gn_2": ("norm_2.norm", AS_IS),
    "f_2": ("conv_2", CONV),
    "f_s": ("shortcut", CONV),
}
TIME_TABLES = ("embed_time.emb", "embed_time.emb.w", "embed_time.emb.weight", "weight")
IMAGE_CHANNELS = 3


def module(shapes: Shapes) -> DecoderUNet:
    """The UNet of tensors with these names and shapes; ValueError naming those it is known by that are not there."""
    bare = {_strip_prefix(name): shape for name, shape in shapes.items()}
    table = _time_table_name(bare)
    ranks = {"down_0_conv_0.f_1.w": 4, "embed_image.f.w": 4, "output.f.w": 4, "embed_time.f_1.w": 2, table: 2}
    levels, blocks = _count_levels(bare, "down_{}_conv_0.f_1.w"), _count_levels(bare, "down_0_conv_{}.f_1.w")
    ranks |= {f"down_{i}_conv_0.f_1.w": 4 for i in range(levels)}
    wrong = [name for name, rank in ranks.items() if len(bare.get(name, ())) != rank or 0 in bare[name]]
    if not wrong and bare["embed_image.f.w"][1] <= IMAGE_CHANNELS:
        wrong = ["embed_image.f.w"]
    if wrong:
        values = ", ".join(f"{name} {bare.get(name, 'is missing')}" for name in wrong)
        raise ValueError(
            f"these are not a consistency decoder's tensors: {values}. Other networks need their config.json beside "
            "them, and a whole pipeline in one file is not read: load that with diffusers' from_single_file and call "
            "save_pretrained"
        )
    channels = tuple(bare[f"down_{i}_conv_0.f_1.w"][0] for i in range(levels))
    return DecoderUNet(
        channels=channels,
        blocks=blocks,
        latent_channels=bare["embed_image.f.w"][1] - IMAGE_CHANNELS,
        out_channels=bare["output.f.w"][0],
        time_entries=bare[table][0],
        embedding_ratio=bare["embed_time.f_1.w"][0] // channels[0],
    )


def rules(shapes: Shapes, unet: DecoderUNet) -> list[Rule]:
    """The table of these tensors."""
    blocks = {f"mid_{j}": f"middle_{j}" for j in range(2)}
    for i in range(len(unet.channels)):
        blocks |= {f"down_{i}_conv_{j}": f"down_{i}_{j}" for j in range(unet.blocks)}
        blocks |= {f"up_{i}_conv_{j}": f"up_{i}_{j}" for j in range(unet.blocks + 1)}
        blocks |= {f"down_{i}_downsamp": f"down_{i}_downsample", f"up_{i}_upsamp": f"up_{i}_upsample"}
    layers = dict(TOP)
    for theirs, ours in blocks.items():
        layers |= {f"{theirs}.{layer}": (f"{ours}.{name}", kind) for layer, (name, kind) in BLOCK.items()}
    table = [rule for source, (target, kind) in layers.items() for rule in _layer_rules(source, target, kind)]
    names = {_strip_prefix(name): name for name in shapes}
    table.append(Rule(_time_table_name(names), "time_table.embedding"))
    return [rule._replace(source=names.get(rule.source, rule.source)) for rule in table]


def _strip_prefix(name: str) -> str:
    return name.rpartition("blocks.")[2]


def _time_table_name(names: Collection[str]) -> str:
    return next((name for name in TIME_TABLES if name in names), TIME_TABLES[0])


def _count_levels(names: Collection[str], template: str) -> int:
    return next(i for i in itertools.count() if template.format(i) not in names)


def _layer_rules(source: str, target: str, kind: Transform) -> list[Rule]:
    if kind is AS_IS:
        return [Rule(f"{source}.g", f"{target}.scale"), Rule(f"{source}.b", f"{target}.bias")]
    return [Rule(f"{source}.w", f"{target}.kernel", kind), Rule(f"{source}.b", f"{target}.bias")]
