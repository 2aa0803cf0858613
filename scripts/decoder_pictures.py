"""The decoders' figures in docs/images, from what `dalle3-jax evaluate decoders` wrote:

python -m dalle3_jax evaluate decoders --decoders runs/demo-cpu/decoder --outdir decoders
python scripts/decoder_pictures.py decoders
"""

import argparse
import shutil
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FIGURES = {
    "letters.png": "decoders_letters.png",
    "measures-encoded-128-px.png": "decoders_measures.png",
    "zoom-encoded-128-px.png": "decoders_zoom.png",
    "zoom-re-sampled.png": "decoders_zoom_own.png",
}


def main() -> None:
    """Copies them, or names what the run has not written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the run's --outdir")
    folder = parser.parse_args().folder
    if missing := [name for name in FIGURES if not (folder / name).is_file()]:
        raise SystemExit(f"error: {folder} lacks {', '.join(missing)}: run the evaluation first, with matplotlib")
    for name, figure in FIGURES.items():
        shutil.copyfile(folder / name, IMAGES / figure)
        print(IMAGES / figure)


if __name__ == "__main__":
    main()
