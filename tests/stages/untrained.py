"""Short runs of stages on the tiny config, after releases of random weights in place of trained ones."""

import io
from contextlib import redirect_stderr
from pathlib import Path

from configs import tiny
from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.commands.train import main
from dalle3_jax.models.build import build_models
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import config_tokenizer
from tests.tiny import randomised

ROOT = Path(__file__).parents[2]


def run_stage(workdir: Path, stage: str, *overrides: str) -> tuple[int, str]:
    """The exit code of two steps, and what they print of errors."""
    config = ["--config", str(ROOT / f"configs/tiny.py:{stage}"), "--workdir", str(workdir)]
    stderr = io.StringIO()
    with redirect_stderr(stderr):
        code = main([*config, "--config.train.steps=2", "--config.train.log_every=1", *overrides])
    return code, stderr.getvalue()


def write_untrained(folder: Path) -> None:
    """Releases of VAE and base model as their stages leave them, of random weights."""
    config = tiny.base()
    sections = plain_config(tiny.vae().model) | plain_config(config.model)
    diffusion = sections.pop("diffusion")
    modules = build_models(sections)
    params = {name: randomised(module, modules, 3) for name, module in modules.items()}
    latent = Latent(4, 8, (0.0,) * 4, (1.0,) * 4)
    save_release(folder / "vae" / "release", Release({"vae": modules["vae"]}, {"vae": params["vae"]}, latent))
    base = Release(
        modules,
        params,
        latent,
        diffusion={name: diffusion[name] for name in ("schedule", "prediction")},
        text={"length": config.data.text_length},
        sizes=(config.data.size,),
        sampling={"steps": 2, "sampler": "ddim", "guidance_scale": 2.0},
        tokenizer=config_tokenizer(config).to_json(),
    )
    save_release(folder / "base" / "release", base)
