"""Images a second of the input pipeline on this machine, beside what a host of a planned pod asks for.

    python -m benchmarks.input_pipeline [--plan docs/plans/base_512_v5e-256.json] [--seconds 10]

A folder and a tar of 512 px JPEGs are made for it. The appetite is the plan's roofline, shared over its hosts: the
fastest that its chips could ever take images. A host of a pod has 100 cores or more, this machine may have two: read
the rate per core.
"""

import argparse
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalle3_jax.data import batches
from dalle3_jax.planning.chips import parse_topology

COUNT = 256


def main() -> None:
    """Measure each source and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plan", type=Path, default=Path("docs/plans/base_512_v5e-256.json"))
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    plan = json.loads(arguments.plan.read_text())
    where = parse_topology(plan["topology"])
    hosts = where.chips / where.chip.host
    appetite = plan["batch"] / max(plan["seconds"].values()) / hosts
    cores = os.cpu_count() or 1
    print(f"a host of {plan['topology']} on {plan['config']} takes at most {appetite:.0f} images/s; {cores} cores here")
    with tempfile.TemporaryDirectory() as name:
        folder, tars = make_datasets(Path(name))
        buckets = ((512, 512), (384, 640), (640, 384))
        sources: dict[str, Mapping[str, Any]] = {
            "folder of JPEGs, 512 px": {"source": str(folder), "size": (512, 512), "buckets": buckets},
            "tar of JPEGs, 512 px": {"source": str(tars), "size": (512, 512), "buckets": buckets},
            "scenes, drawn at 128 px": {"size": (128, 128)},
        }
        for label, data in sources.items():
            rate = measure_rate({**data, "threads": 2 * cores, "captions": {"alt": 1.0}}, arguments.seconds)
            wanted = cores * appetite / rate
            print(f"{label:<26} {rate:8.0f} images/s, {rate / cores:6.0f} a core: {wanted:5.1f} cores a host")


def measure_rate(data: Mapping[str, Any], seconds: float) -> float:
    """Images a second, the first two batches left out."""
    stream = batches.make_batches(data, tokenize=constant_tokenizer, batch_size=32, seed=0)
    for _ in range(2):
        next(stream)
    began, images = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        images += len(next(stream)["images"])
    return images / (time.monotonic() - began)


def constant_tokenizer(texts: list[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """A tokenizer that costs nothing."""
    return np.ones((len(texts), length), np.int32), np.ones((len(texts), length), bool)


def make_datasets(folder: Path) -> tuple[Path, Path]:
    """A folder with a metadata.jsonl and a folder with a tar, of the same JPEGs of photographs' size and detail."""
    plain, tars = folder / "plain", folder / "tars"
    plain.mkdir()
    tars.mkdir()
    draw = np.random.default_rng(0)
    lines = []
    with tarfile.open(tars / "00000.tar", "w") as tar:
        for index in range(COUNT):
            height, width = ((512, 512), (512, 768), (768, 512))[index % 3]
            coarse = draw.integers(0, 255, (height // 16, width // 16, 3), np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            noisy = np.clip(np.asarray(image, np.int16) + draw.integers(-12, 12, (height, width, 3)), 0, 255)
            stream = io.BytesIO()
            Image.fromarray(noisy.astype(np.uint8)).save(stream, "JPEG", quality=90)
            key, content = f"{index:09d}", stream.getvalue()
            (plain / f"{key}.jpg").write_bytes(content)
            lines.append(json.dumps({"file_name": f"{key}.jpg", "text": f"picture {index}"}))
            members = {"jpg": content, "txt": f"picture {index}".encode()}
            members["json"] = json.dumps({"key": key, "height": height, "width": width}).encode()
            for kind, data in members.items():
                entry = tarfile.TarInfo(f"{key}.{kind}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    (plain / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return plain, tars


if __name__ == "__main__":
    main()
