"""From a folder of pictures with captions to samples of your own model: VAE, text side, UNet, export, sample.

    python examples/own_pictures.py PICTURES WORKDIR "a prompt" [--config.train.steps=1000 ...]

The commands of docs/own_pictures.md one after the other; flags go to all three trainings. Run it again to go on.
"""

import sys
from pathlib import Path

from dalle3_jax.commands import export, sample, train

STAGES = ("vae", "text", "base")


def main(pictures, workdir, prompt, *flags, config="own_pictures"):
    """The exit code: 0 when the samples are in WORKDIR/samples, 75 when a training was stopped and saved."""
    for stage in STAGES:
        source = f"--config.data.source={pictures}"
        if code := train.main([f"--config={config}:{stage}", f"--workdir={workdir}", source, *flags]):
            return code
    release = str(Path(workdir) / "release")
    return export.main([str(Path(workdir) / "base"), release]) or sample.main(
        ["--checkpoint", release, "--prompt", prompt, "-n", "4", "--grid", "--outdir", str(Path(workdir) / "samples")]
    )


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
