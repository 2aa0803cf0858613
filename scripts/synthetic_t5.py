"""A T5 encoder of random values on disk, in the very layout of the public ones: to measure the import of large files.

python scripts/synthetic_t5.py /data/t5-xxl                 4,762,310,656 parameters, bfloat16, 9.5 GB in five files
python scripts/synthetic_t5.py /data/t5-small --size small
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

SIZES = {
    "small": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
    "base": {"d_model": 768, "d_ff": 2048, "num_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
    "xl": {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
    "xxl": {"d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
}
"""v1.1's, as their config.json gives them."""

SHARD = 2 * 10**9


def main(argv: list[str]) -> None:
    """Writes the folder, tensor by tensor, in little memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="xxl")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    sizes = SIZES[arguments.size]
    arguments.folder.mkdir(parents=True)
    config = {"architectures": ["T5EncoderModel"], "model_type": "t5", "vocab_size": 32128, "d_kv": 64, **sizes}
    config |= {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32, "layer_norm_epsilon": 1e-6}
    (arguments.folder / "config.json").write_text(json.dumps(config, indent=2))
    write_shards(arguments.folder, list(tensor_shapes(**sizes)), np.random.default_rng(arguments.seed))


def tensor_shapes(d_model: int, d_ff: int, num_layers: int, num_heads: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes, in the order of the public files."""
    yield "shared.weight", (32128, d_model)
    for i in range(num_layers):
        block, inner = f"encoder.block.{i}.layer", 64 * num_heads
        yield from ((f"{block}.0.SelfAttention.{name}.weight", (inner, d_model)) for name in "qkv")
        yield f"{block}.0.SelfAttention.o.weight", (d_model, inner)
        if i == 0:
            yield f"{block}.0.SelfAttention.relative_attention_bias.weight", (32, num_heads)
        yield f"{block}.0.layer_norm.weight", (d_model,)
        yield from ((f"{block}.1.DenseReluDense.{name}.weight", (d_ff, d_model)) for name in ("wi_0", "wi_1"))
        yield f"{block}.1.DenseReluDense.wo.weight", (d_model, d_ff)
        yield f"{block}.1.layer_norm.weight", (d_model,)
    yield "encoder.final_layer_norm.weight", (d_model,)


def write_shards(folder: Path, tensors: list[tuple[str, tuple[int, ...]]], rng: np.random.Generator) -> None:
    """The shards and their index."""
    groups: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    for name, shape in tensors:
        if sum(2 * int(np.prod(s)) for _, s in groups[-1]) + 2 * int(np.prod(shape)) > SHARD and groups[-1]:
            groups.append([])
        groups[-1].append((name, shape))
    files = {}
    with tqdm(total=sum(2 * int(np.prod(s)) for _, s in tensors), unit="B", unit_scale=True) as bar:
        for number, group in enumerate(groups, start=1):
            file = f"model-{number:05}-of-{len(groups):05}.safetensors"
            write_shard(folder / file, group, rng, bar)
            files |= dict.fromkeys((name for name, _ in group), file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}, indent=2))


def write_shard(path: Path, group: list[tuple[str, tuple[int, ...]]], rng: np.random.Generator, bar: tqdm) -> None:
    """One safetensors file of uniform values between -1/8 and 1/8."""
    header, place = {}, 0
    for name, shape in group:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in group:
            values = rng.integers(0, 2**16, int(np.prod(shape)), np.uint16)
            # Sign and fraction at random, the exponent that of 1/16 to 1/8.
            file.write(((values & 0x807F) | (123 << 7)).astype("<u2").data)
            bar.update(2 * values.size)


if __name__ == "__main__":
    main(sys.argv[1:])
