"""What a run may go on with."""

import json

import pytest

from configs import tiny
from dalle3_jax.loading.locate import find_release
from dalle3_jax.stages.config import check_unchanged, is_grid, load_config, plain_config


def test_a_key_of_the_data_that_an_older_run_did_not_have_counts_as_its_default(tmp_path):
    config, path = plain_config(tiny.get_config("vae")), tmp_path / "config.json"
    older = json.loads(json.dumps(config))
    del older["data"]["background"], older["data"]["fields"]
    path.write_text(json.dumps(older))
    check_unchanged(path, config)
    check_unchanged(path, older)
    other = {**config, "data": {**config["data"], "background": [0, 0, 0], "captions": {"alt": 1.0}}}
    with pytest.raises(ValueError, match=r"background: \[255, 255, 255\] -> \[0, 0, 0\]; data.captions.alt: 0.05 -> 1"):
        check_unchanged(path, other)
    older["data"]["captions"] = {"alt": 1.0}  # a section that is there is taken as it is, without defaults within it
    path.write_text(json.dumps(older))
    check_unchanged(path, {**config, "data": {**config["data"], "captions": {"alt": 1.0}}})


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_home_folder_is_meant_by_its_sign_behind_an_equals_sign_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = load_config(["--config=configs/tiny.py:vae", "--workdir=~/runs"])
    assert loaded is not None
    assert loaded[1] == tmp_path / "runs"
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "model.json").write_text("{}")
    assert find_release("~/release") == tmp_path / "release"


@pytest.mark.parametrize("value", [8, (2, 2, 1), (4,), (2.0, 2.0), (True, 2), (0, 4), "ab"])
def test_a_grid_is_rows_and_columns(value):
    assert is_grid((2, 3))
    assert not is_grid(value)
