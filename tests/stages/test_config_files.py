"""Configs by name or path wherever a command runs, and what the command line adds to them."""

import sys
from pathlib import Path

import pytest

from dalle3_jax.stages.config import check_stage_config, load_config
from dalle3_jax.stages.config_files import find_config, read_config_file
from dalle3_jax.stages.table import STAGES

ROOT = Path(__file__).parents[2]


def load(*argv):
    loaded = load_config([*argv, "--workdir=W"])
    assert loaded is not None
    return loaded[0]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder with configs of its own, as many projects have; nothing of the package's has been imported."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "common.py").write_text("raise RuntimeError('another project')")
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "configs"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["demo:captioner_short", "configs/demo.py:vae", "configs/tiny.py:base", "xl_1024:base_256"]
)
def test_the_packages_configs_are_there_from_anywhere(elsewhere, name):
    config = load(f"--config={name}")
    assert name.partition(":")[2] in (config.train.stage, config.train.name)
    assert "configs.common" not in sys.modules, "nothing is left of it"


def test_ablations_are_found_by_their_names(elsewhere):
    assert find_config("prediction", "ablations") == ROOT / "configs" / "ablations" / "prediction.py"
    assert find_config("configs/ablations/xfnet.py", "ablations").name == "xfnet.py"
    with pytest.raises(ValueError, match=r"no config 'predictions'.*prediction"):
        find_config("predictions", "ablations")


def test_a_file_that_is_there_goes_first_and_sees_its_neighbours_and_ours(elsewhere):
    (elsewhere / "configs" / "demo.py").write_text(
        "from configs import other, tiny\ndef get_config(stage):\n    c = tiny.get_config(stage)\n"
        "    c.train.seed = other.SEED\n    return c\n"
    )
    (elsewhere / "configs" / "other.py").write_text("SEED = 41\n")
    (elsewhere / "configs" / "common.py").unlink()
    assert load("--config=configs/demo.py:vae").train.seed == 41
    assert load("--config=demo:vae").train.seed == 0


def test_a_stage_that_is_none_and_a_file_that_breaks_are_one_line(elsewhere):
    with pytest.raises(ValueError, match="no stage 'nix': use vae") as error:
        load("--config=demo:nix")
    assert "Traceback" not in str(error.value)
    (elsewhere / "mine.py").write_text("def get_config():\n    return 1 / 0\n")
    with pytest.raises(ValueError, match=r"mine.py gives no config: ZeroDivisionError: division by zero"):
        load("--config=mine.py")
    (elsewhere / "mine.py").write_text("def get_config():\n    return {}\n")
    with pytest.raises(ValueError, match="returns a dict, no ConfigDict"):
        load("--config=mine.py")
    with pytest.raises(ValueError, match=r"no config 'nix\.py': give a file, or one of base_512") as error:
        load("--config=nix.py")
    assert not {"common", "demo_world"} & set(str(error.value).replace(",", "").split()), "no stages are in those"
    with pytest.raises(ValueError, match="no config file"):
        read_config_file(elsewhere / "gone.py")


def test_sections_of_the_configs_own_names_take_new_keys():
    flags = ("--config.init.unet=demo", "--config.data.captions.mine", "0.5", "--config.model.unet.qk_norm=True")
    flags += ("--config.train.rates.unet=0.1", "--config.model.glyph_encoder.layers=2", "--config.init.vae=other")
    config = load("--config=tiny:base", *flags)
    assert config.init.unet == "demo"
    assert config.init.vae == "other"
    assert config.data.captions.mine == 0.5
    assert config.model.unet.qk_norm is True
    assert config.train.rates.unet == 0.1
    assert config.model.glyph_encoder.layers == 2
    with pytest.raises(AttributeError):
        config.train.nix = 1  # locked as before


def test_keys_that_no_section_has_are_named_with_the_nearest(capsys):
    with pytest.raises(ValueError, match=r"no key 'train.stepps': did you mean 'train.steps'"):
        load("--config=tiny:base", "--config.train.stepps=10")
    with pytest.raises(ValueError, match=r"no key 'nix'"):
        load("--config=tiny:base", "--config.nix=1")
    with pytest.raises(ValueError, match=r"init has sprocket"):
        check_stage_config(load("--config=tiny:base", "--config.init.sprocket=demo"), STAGES)
    with pytest.raises(ValueError, match="nix"):
        check_stage_config(load("--config=tiny:base", "--config.model.unet.nix=3"), STAGES)


def test_known_keys_keep_their_types():
    config = load("--config=tiny:base", "--config.data.captions={'mine': 1.0}", "--config.train.learning_rate=1")
    assert config.data.captions.to_dict() == {"mine": 1.0}
    assert config.train.learning_rate == 1.0
    with pytest.raises(ValueError, match=r"train.steps=many"):
        load("--config=tiny:base", "--config.train.steps=many")
    levels = load("--config=tiny:base", "--config.model.unet.levels[0].depth=2").model.unet.levels
    assert levels[0].depth == 2
