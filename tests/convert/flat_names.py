"""The consistency decoder's two public layouts, name by name; written apart from the package's tables."""

TOP = {
    "conv_in": "embed_image.f",
    "time_embedding.linear_1": "embed_time.f_1",
    "time_embedding.linear_2": "embed_time.f_2",
    "conv_norm_out": "output.gn",
    "conv_out": "output.f",
}
LAYERS = {
    "norm1": "gn_1",
    "conv1": "f_1",
    "time_emb_proj": "f_t",
    "norm2": "gn_2",
    "conv2": "f_2",
    "conv_shortcut": "f_s",
}


def flat(name: str, levels: int) -> str:
    """The flat name of one of diffusers' tensors; its levels count from the image's side, also on the way up."""
    module, _, leaf = name.rpartition(".")
    if module == "time_proj":
        return "embed_time.emb.weight"
    if module in TOP:
        module = TOP[module]
    else:
        *block, layer = module.split(".")
        module = f"{_block(block, levels)}.{LAYERS[layer]}"
    return f"{module}.{'b' if leaf == 'bias' else 'g' if '.gn' in module else 'w'}"


def _block(block: list[str], levels: int) -> str:
    match block:
        case "mid_block", _, number:
            return f"mid_{number}"
        case "down_blocks", level, "resnets", number:
            return f"down_{level}_conv_{number}"
        case "down_blocks", level, "downsamplers", _:
            return f"down_{level}_downsamp"
        case "up_blocks", level, "resnets", number:
            return f"up_{levels - 1 - int(level)}_conv_{number}"
        case "up_blocks", level, "upsamplers", _:
            return f"up_{levels - 1 - int(level)}_upsamp"
    raise AssertionError(block)
