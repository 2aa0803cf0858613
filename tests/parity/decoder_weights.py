"""A diffusers UNet2DModel of resampling residual blocks (the consistency decoder's) as our DecoderUNet's tree."""

from tests.parity.weights import Tree, Weights, conv, mlp, norm, res_block


def decoder_unet(w: Weights, levels: int, blocks: int) -> Tree:
    """Levels are ours, counted from the image's side; every block is modulated, and so is every sampler."""
    tree = {
        "conv_in": conv(w / "conv_in"),
        "time_table": {"embedding": (w / "time_proj")["weight"]},
        "time_embedding": mlp(w / "time_embedding"),
        "middle_0": res_block(w / "mid_block.resnets.0", scale_shift=True),
        "middle_1": res_block(w / "mid_block.resnets.1", scale_shift=True),
        "norm_out": norm(w / "conv_norm_out"),
        "conv_out": conv(w / "conv_out"),
    }
    for i in range(levels):
        down, up = w / f"down_blocks.{i}", w / f"up_blocks.{levels - 1 - i}"
        for j in range(blocks):
            tree[f"down_{i}_{j}"] = res_block(down / f"resnets.{j}", scale_shift=True)
        for j in range(blocks + 1):
            tree[f"up_{i}_{j}"] = res_block(up / f"resnets.{j}", scale_shift=True)
        if i < levels - 1:
            tree[f"down_{i}_downsample"] = res_block(down / "downsamplers.0", scale_shift=True)
        if i > 0:
            tree[f"up_{i}_upsample"] = res_block(up / "upsamplers.0", scale_shift=True)
    return tree
