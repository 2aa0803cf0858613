"""Configs that no training could use: one line that names the key, before anything is computed."""

import pytest

from dalle3_jax.commands.train import main
from scripts.faults.bad_configs import BAD

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1

# What is known only with the devices and earlier stages' files; `python -m scripts.faults.configs` tries all.
LATER = ("batch_size=7", "accumulate=3", "mesh.tensor", "mesh.slices=0", "init.vae", "data.source=/")


@pytest.mark.parametrize("flag", [flag for flag in BAD if not any(part in flag for part in LATER)])
def test_a_bad_config_is_answered_by_the_name_of_its_key(flag, tmp_path, capsys):
    assert main(["--config=configs/tiny.py:base", f"--workdir={tmp_path / 'W'}", flag]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert BAD[flag] in said[0]
    assert not (tmp_path / "W").exists()


def test_all_that_is_wrong_is_said_at_once(tmp_path, capsys):
    flags = ["--config.train.ema=2.0", "--config.data.dropout=3.0", "--config.model.unet.groups=3"]
    assert main(["--config=configs/tiny.py:base", f"--workdir={tmp_path}", *flags]) == 2
    said = capsys.readouterr().err
    for key in ("config.train.ema is 2.0", "config.data.dropout is 3.0", "no multiple of its 3 groups"):
        assert key in said
