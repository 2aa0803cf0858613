"""A config.json says what it wants in bounds, or is refused before anything is counted."""

import json

import pytest

from dalle3_jax import convert
from dalle3_jax.convert.configs import raise_unsupported, unsupported_options


def test_every_option_that_is_not_supported_is_named_once_and_together():
    config = {"act_fn": "relu", "heads": True, "levels": [1, 2], "odd": 3, "off": False, "none": None, "_note": 1}
    problems = unsupported_options(
        config, {"act_fn": "silu", "heads": 1, "levels": [(1, 2)], "absent": 5}, known=("more",)
    )
    assert [problem.partition("=")[0] for problem in problems] == ["act_fn", "heads", "odd"]
    with pytest.raises(ValueError, match=r"act_fn='relu'.*heads=True.*odd=3"):
        raise_unsupported("test", problems)


def test_without_known_options_others_are_none_of_its_business():
    assert unsupported_options({"odd": 3}, {"act_fn": "silu"}) == []


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("AutoencoderKL", "layers_per_block", 10**9),
        ("UNet2DConditionModel", "layers_per_block", [2, 10**9]),
        ("ConsistencyDecoderVAE", "decoder_layers_per_block", 10**9),
        ("AutoencoderKL", "block_out_channels", [4] * 100_000),
    ],
)
def test_a_config_of_a_giant_is_refused_at_once(name, option, value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name, option: value}))
    with pytest.raises(ValueError, match=f"more than 1000 of {option}"):
        convert.load(tmp_path)
