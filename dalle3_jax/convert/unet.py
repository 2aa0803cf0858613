"""diffusers' UNet2DConditionModel, of Stable Diffusion 1, 2, XL, x4 and their like: config.json and the tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dalle3_jax.convert.blocks import mlp_rules, residual_rules, spatial_transformer_rules
from dalle3_jax.convert.configs import is_size, raise_unsupported, unsupported_options
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, conv, embedding, linear, norm
from dalle3_jax.models.unet import SIZE_ID_WIDTH, Level, UNet
from dalle3_jax.models.unet_call import REFINER_SIZE_IDS

__all__ = ["LAYOUT", "config", "module"]

CLASS = "UNet2DConditionModel"
SIZE_IDS = 6
"""Of SDXL: original height and width, top and left of the crop, and target height and width or an aesthetic score."""

TIME: dict[str, Literal["add", "scale_shift"]] = {"default": "add", "scale_shift": "scale_shift"}
"""resnet_time_scale_shift -> our time_conditioning."""

DOWN = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
"""Blocks on the way down, with and without transformers -> their mirror images on the way up."""

DEFAULTS = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "attention_head_dim": 8,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "projection_class_embeddings_input_dim": None,
    "time_embedding_dim": None,
    "resnet_time_scale_shift": "default",
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
    "num_class_embeds": None,
    "norm_eps": 1e-5,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "num_attention_heads": None,
    "time_cond_proj_dim": None,
    "class_embed_type": None,
}
"""What diffusers takes for options that old configs lack."""

SUPPORTED = {
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": ["silu", "swish"],
    "use_linear_projection": [False, True],
    "addition_embed_type": [None, "text_time"],
    "class_embed_type": [None, "timestep", "projection"],
    "resnet_time_scale_shift": list(TIME),
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "conv_in_kernel": [1, 3],
    "conv_out_kernel": [1, 3],
    "attention_type": "default",
    "mid_block_only_cross_attention": [None, False, True],
}
"""The values of each option for which there is a UNet here; further options must be off."""

OFF = (
    *("center_input_sample", "dual_cross_attention", "encoder_hid_dim", "encoder_hid_dim_type"),
    *("resnet_skip_time_act", "time_embedding_act_fn", "timestep_post_act"),
    *("class_embeddings_concat", "cross_attention_norm"),
)
IGNORED = ("sample_size", "upcast_attention", "dropout", "addition_embed_type_num_heads")


def module(config: Mapping[str, Any]) -> UNet:
    """The UNet of a config.json; raises ValueError naming every option that is not supported."""
    options = DEFAULTS | dict(config)
    errors = unsupported_options(options, SUPPORTED | {name: [None, False] for name in OFF}, DEFAULTS, IGNORED)
    levels = _read_levels(options, errors)
    values = {name: _read_size(options, name, errors) for name in ("in_channels", "out_channels", "norm_num_groups")}
    timed, projected = options["addition_embed_type"] is not None, options["class_embed_type"] == "projection"
    if timed and projected:
        errors.append("addition_embed_type beside class_embed_type='projection' (supported: one of them)")
    size_ids, vector_width = _read_text_time(options, errors) if timed else (0, 0)
    if projected:
        vector_width = _read_size(options, "projection_class_embeddings_input_dim", errors)
    unet = UNet(
        levels=levels,
        in_channels=values["in_channels"],
        out_channels=values["out_channels"],
        time_conditioning=TIME.get(str(options["resnet_time_scale_shift"]), "add"),
        modulate_first=False,
        affine=True,
        pooled=timed or projected,
        size_ids=size_ids,
        context_width=_read_size(options, "cross_attention_dim", errors),
        vector_width=vector_width,
        level_entries=_read_level_entries(options, errors),
        middle_depth=_read_per_level(options, "transformer_layers_per_block", len(levels), errors)[-1],
        middle_self_attend=_reads_middle_self_attention(options),
        groups=values["norm_num_groups"],
        embedding_ratio=_read_embedding_ratio(options, levels[0].channels, errors),
        eps=_read_eps(options, errors),
        size_id_width=_size_id_width(options) if timed else SIZE_ID_WIDTH,
        guidance_width=_read_guidance_width(options, errors),
        conv_in_kernel=options["conv_in_kernel"],
        conv_out_kernel=options["conv_out_kernel"],
    )
    raise_unsupported(CLASS, list(dict.fromkeys(errors)))
    return unet


def config(unet: UNet) -> dict[str, Any]:
    """The config.json of a UNet; raises ValueError naming every field that diffusers has no option for."""
    raise_unsupported(f"UNet, as {CLASS},", _inexpressible_fields(unet))
    down = ["CrossAttnDownBlock2D" if level.depth else "DownBlock2D" for level in unet.levels]
    depths = [level.depth or 1 for level in unet.levels]
    blocks = [level.blocks for level in unet.levels]
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": unet.size_id_width,
        "projection_class_embeddings_input_dim": unet.vector_width + unet.size_ids * unet.size_id_width,
    }
    projected = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": unet.vector_width}
    levels = {"class_embed_type": "timestep"} if unet.level_entries == 0 else {"num_class_embeds": unet.level_entries}
    crossed = {
        "only_cross_attention": [not level.self_attend for level in unet.levels],
        "mid_block_only_cross_attention": not unet.middle_self_attend,
    }
    fields = {"eps": "norm_eps", "conv_in_kernel": "conv_in_kernel", "conv_out_kernel": "conv_out_kernel"}
    others = {theirs: getattr(unet, ours) for ours, theirs in fields.items() if getattr(unet, ours) != DEFAULTS[theirs]}
    others |= {"time_cond_proj_dim": unet.guidance_width} if unet.guidance_width else {}
    return {
        "_class_name": CLASS,
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "up_block_types": [DOWN[kind] for kind in reversed(down)],
        "block_out_channels": [level.channels for level in unet.levels],
        "layers_per_block": blocks[0] if len({*blocks}) == 1 else blocks,
        "transformer_layers_per_block": [*depths[:-1], unet.middle_depth],
        "attention_head_dim": [level.heads for level in unet.levels],
        "cross_attention_dim": unet.context_width,
        "norm_num_groups": unet.groups,
        "time_embedding_dim": unet.embedding_ratio * unet.levels[0].channels,
        "resnet_time_scale_shift": next(theirs for theirs, ours in TIME.items() if ours == unet.time_conditioning),
        "use_linear_projection": True,
        **((added if unet.size_ids else projected) if unet.pooled else {}),
        **(crossed if not all([unet.middle_self_attend, *(level.self_attend for level in unet.levels)]) else {}),
        **({} if unet.level_entries is None else levels),
        **others,
    }


def _read_levels(options: Mapping[str, Any], errors: list[str]) -> tuple[Level, ...]:
    channels, down, up = (options[name] for name in ("block_out_channels", "down_block_types", "up_block_types"))
    count = len(channels) if isinstance(channels, list | tuple) and channels else 1
    known = isinstance(down, list | tuple) and len(down) == count and all(kind in list(DOWN) for kind in down)
    if known:
        errors += unsupported_options(
            {"up_block_types": up}, {"up_block_types": [[DOWN[kind] for kind in reversed(down)]]}
        )
    else:
        errors.append(f"down_block_types={down!r} (supported: {count} of {', '.join(DOWN)})")
    columns = ("block_out_channels", "layers_per_block", "transformer_layers_per_block", "attention_head_dim")
    widths, blocks, depths, heads = (_read_per_level(options, name, count, errors) for name in columns)
    reverse = "reverse_transformer_layers_per_block"
    if options[reverse] is not None and _read_per_level(options, reverse, count, errors) != depths[::-1]:
        errors.append(f"{reverse}={options[reverse]!r} (supported: the mirror image of the way down)")
    if options["num_attention_heads"] not in (None, options["attention_head_dim"]):
        errors.append(
            f"num_attention_heads={options['num_attention_heads']!r} (supported: none but attention_head_dim)"
        )
    depths = [depth if known and down[i].startswith("Cross") else 0 for i, depth in enumerate(depths)]
    attending = [*depths[:-1], 1]  # the middle block, which attends too, has the last level's heads
    if any(depth and width % n for width, n, depth in zip(widths, heads, attending, strict=True)):
        errors.append(f"attention_head_dim={options['attention_head_dim']!r} (numbers of heads that divide {widths})")
    return tuple(map(Level, widths, blocks, depths, heads, _read_self_attention(options, count, errors)))


def _read_self_attention(options: Mapping[str, Any], levels: int, errors: list[str]) -> tuple[bool, ...]:
    """Whether pixels attend to each other, level by level."""
    only_cross = options["only_cross_attention"]
    crossed = only_cross if isinstance(only_cross, list | tuple) else [only_cross or False] * levels
    if len(crossed) == levels and all(isinstance(value, bool) for value in crossed):
        return tuple(not value for value in crossed)
    errors.append(f"only_cross_attention={only_cross!r} (supported: true or false, for all or each of {levels} levels)")
    return (True,) * levels


def _reads_middle_self_attention(options: Mapping[str, Any]) -> bool:
    """The middle follows the levels where these are all alike by one word, and attends to itself after a list."""
    middle, levels = options["mid_block_only_cross_attention"], options["only_cross_attention"]
    return not (levels is True if middle is None else middle)


def _read_per_level(options: Mapping[str, Any], name: str, levels: int, errors: list[str]) -> tuple[int, ...]:
    """One whole number a level, of an option that is one for all, or a list; lists in it must repeat one number."""
    value = options[name]
    numbers = [_repeated_value(item) for item in value] if isinstance(value, list | tuple) else [value] * levels
    if len(numbers) == levels and all(map(is_size, numbers)):
        return tuple(numbers)
    errors.append(f"{name}={value!r} (supported: one positive whole number for each of {levels} levels)")
    return (1,) * levels


def _repeated_value(value: Any) -> Any:
    """The number that a list repeats."""
    repeats = isinstance(value, list | tuple) and value and all(item == value[0] for item in value)
    return value[0] if repeats else value


def _read_size(options: Mapping[str, Any], name: str, errors: list[str]) -> int:
    value = _repeated_value(options[name])
    if not is_size(value):
        errors.append(f"{name}={options[name]!r} (supported: a positive whole number)")
    return value if is_size(value) else 1


def _read_level_entries(options: Mapping[str, Any], errors: list[str]) -> int | None:
    """Entries of the table of classes, which an upscaler has for its noise levels; 0: sinusoids of them."""
    kind, entries = options["class_embed_type"], options["num_class_embeds"]
    if entries is not None:
        entries = _read_size(options, "num_class_embeds", errors)
    return 0 if kind == "timestep" else entries if kind is None else None


def _read_text_time(options: Mapping[str, Any], errors: list[str]) -> tuple[int, int]:
    """The number of size ids and the width of the text vector, which share text_time's input.

    Five ids, with an aesthetic score, are those of SDXL's refiner: its one text encoder gives tokens and a vector of
    one width.
    """
    if not is_size(options["addition_time_embed_dim"]) or options["addition_time_embed_dim"] % 2:
        errors.append(f"addition_time_embed_dim={options['addition_time_embed_dim']!r} (supported: even whole numbers)")
    name = "projection_class_embeddings_input_dim"
    whole, each = _read_size(options, name, errors), _size_id_width(options)
    if whole - REFINER_SIZE_IDS * each == options["cross_attention_dim"]:
        return REFINER_SIZE_IDS, whole - REFINER_SIZE_IDS * each
    if whole <= SIZE_IDS * each:
        errors.append(f"{name}={options[name]!r} (supported: above the {SIZE_IDS * each} of {SIZE_IDS} size ids)")
    return SIZE_IDS, whole - SIZE_IDS * each


def _size_id_width(options: Mapping[str, Any]) -> int:
    """Sinusoids of a size id; SDXL's number in place of what is no number."""
    width = options["addition_time_embed_dim"]
    return width if is_size(width) else SIZE_ID_WIDTH


def _read_guidance_width(options: Mapping[str, Any], errors: list[str]) -> int:
    """Sinusoids of the guidance scale."""
    width = options["time_cond_proj_dim"]
    if width is None or (is_size(width) and width >= 4 and width % 2 == 0):
        return width or 0
    errors.append(f"time_cond_proj_dim={width!r} (supported: none, or even whole numbers of at least 4)")
    return 0


def _read_eps(options: Mapping[str, Any], errors: list[str]) -> float:
    eps = options["norm_eps"]
    if not isinstance(eps, float) or not 0 < eps < 1:
        errors.append(f"norm_eps={eps!r} (supported: numbers between 0 and 1)")
        return DEFAULTS["norm_eps"]
    return eps


def _read_embedding_ratio(options: Mapping[str, Any], top: int, errors: list[str]) -> int:
    width = options["time_embedding_dim"] or 4 * top
    if not is_size(width) or width % top:
        errors.append(f"time_embedding_dim={width!r} (supported: multiples of {top})")
        return 4
    return width // top


def _inexpressible_fields(unet: UNet) -> Sequence[str]:
    """The fields that diffusers has no option for."""
    supported: dict[str, Any] = {"qk_norm": False, "size_ids": (0, SIZE_IDS, REFINER_SIZE_IDS) if unet.pooled else 0}
    supported |= {"patch": 1, "norm": "group", "grid": None}
    if unet.time_conditioning == "scale_shift":
        supported |= {"modulate_first": False, "affine": True}
    if depth := unet.levels[-1].depth:
        supported["middle_depth"] = depth
    errors = unsupported_options({name: getattr(unet, name) for name in supported}, supported)
    widths = ("context_width", "vector_width") if unet.pooled else ("context_width",)
    wanted = [name for name in (*widths, "middle_depth") if not getattr(unet, name)]
    if unet.pooled and unet.size_ids == 0 and unet.level_entries == 0:
        errors.append("sinusoids of a noise level beside a pooled vector without size ids (supported: one of them)")
    elif unet.size_ids == REFINER_SIZE_IDS and unet.vector_width != unet.context_width:
        errors.append("five size ids beside a vector that is not as wide as the tokens")
    return errors + [f"{name}=0 (supported: positive whole numbers)" for name in wanted]


def rules(config: Mapping[str, Any], unet: UNet) -> list[Rule]:
    """The table of its tensors."""
    time, dense = unet.time_conditioning, config.get("use_linear_projection", False)
    table = [
        *conv("conv_in", "conv_in"),
        *mlp_rules("time_embedding", "time_embedding"),
        *linear("time_embedding.cond_proj", "guidance_projection", bias=False),
        *mlp_rules("class_embedding" if unet.pooled and not unet.size_ids else "add_embedding", "condition_embedding"),
        *(mlp_rules("class_embedding", "level_embedding") if unet.level_entries == 0 else ()),
        *embedding("class_embedding", "level_table"),
        *residual_rules("mid_block.resnets.0", "middle_block_0", time),
        *spatial_transformer_rules("mid_block.attentions.0", "middle_transformer", dense),
        *residual_rules("mid_block.resnets.1", "middle_block_1", time),
        *norm("conv_norm_out", "norm_out"),
        *conv("conv_out", "conv_out"),
    ]
    for stage, number, target, depth in _block_names(unet):
        table += residual_rules(f"{stage}.resnets.{number}", f"{target}_block", time)
        if depth:
            table += spatial_transformer_rules(f"{stage}.attentions.{number}", f"{target}_transformer", dense)
    for i in range(len(unet.levels)):
        table += conv(f"down_blocks.{i}.downsamplers.0.conv", f"down_{i}_downsample.conv")
        table += conv(f"{_up_block(unet, i)}.upsamplers.0.conv", f"up_{i}_upsample.conv")
    return table


def _block_names(unet: UNet) -> list[tuple[str, int, str, int]]:
    """(their block, number of a residual block in it, our name of both, layers of the transformer behind it)."""
    stages = []
    for i, level in enumerate(unet.levels):
        stages += [(f"down_blocks.{i}", j, f"down_{i}_{j}", level.depth) for j in range(level.blocks)]
        stages += [(_up_block(unet, i), j, f"up_{i}_{j}", level.depth) for j in range(level.blocks + 1)]
    return stages


def _up_block(unet: UNet, level: int) -> str:
    """diffusers counts blocks on the way up from the lowest resolution."""
    return f"up_blocks.{len(unet.levels) - 1 - level}"


LAYOUT = NetworkLayout(module, rules, config)
