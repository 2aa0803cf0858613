"""dalle3-jax plan --what sample: the loop as often as it runs, every chip its own images, without weights."""

import json

import pytest

from dalle3_jax.commands import plan
from dalle3_jax.planning.chips import parse_topology
from dalle3_jax.planning.sampling import plan_sampling
from dalle3_jax.stages.config import load_config

CONFIG = "tests/commands/tiny_pod.py:base"
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


def planned(slices="v5e-16", images=32, how="estimate", **settings):
    flags = [f"--config.sample.{name}={value}" for name, value in settings.items()]
    loaded = load_config([f"--config={CONFIG}", "--workdir=plan", *flags])
    assert loaded is not None
    return json.loads(plan_sampling(loaded[0], CONFIG, parse_topology(slices), (32, 64), images, how).to_json())


@pytest.fixture(scope="module")
def estimate():
    return planned(steps=2)


def test_the_loop_costs_as_many_networks_as_it_has_steps_and_twice_that_guided(estimate):
    two, four, six = estimate["parts"], planned(steps=4)["parts"], planned(steps=6)["parts"]
    text_once = 2 * two["loop"] - four["loop"]  # its keys and values, which no step computes again
    assert 0 < text_once < 0.01 * two["loop"]
    assert six == two | {"loop": pytest.approx(3 * two["loop"] - 2 * text_once)}
    alone = planned(steps=2, guidance_scale=1.0)
    assert alone["parts"] == estimate["parts"] | {"loop": pytest.approx(estimate["parts"]["loop"] / 2)}
    twice = planned(steps=2, sampler="heun")  # but for its last step, which heun takes once
    assert estimate["parts"]["loop"] < twice["parts"]["loop"] <= 2 * estimate["parts"]["loop"]
    assert estimate["flops"] == estimate["model_flops"] == pytest.approx(sum(estimate["parts"].values()))


def test_a_chip_holds_all_networks_and_works_on_its_own_images(estimate):
    many = planned("v5e-256", 512, steps=2)
    assert many["parts"] == pytest.approx(estimate["parts"])
    assert many["memory"] == estimate["memory"]
    assert estimate["memory"]["networks"] == 2 * sum(estimate["parameters"].values())  # in bfloat16
    assert set(estimate["parameters"]) == {"text_encoder", "xfnet", "unet", "vae"}
    double = planned(images=64, steps=2)
    assert double["parts"] == pytest.approx({name: 2 * amount for name, amount in estimate["parts"].items()}, rel=1e-3)


def test_what_is_compiled_for_the_cpu_agrees_with_the_estimate(estimate):
    quick = planned(how="quick", steps=2)
    for name in ("text", "loop"):
        assert quick["parts"][name] == pytest.approx(estimate["parts"][name], rel=0.1), name
    assert quick["memory"]["temporaries"] > 0
    assert quick["bytes"] > 0
    assert quick["compile_seconds"] > 0


def test_the_command_says_what_it_plans_and_what_it_does_not_know(capsys):
    assert plan.main([f"--config={CONFIG}", "--topology=v5e-4", "--what=sample", "--estimate"]) == 0
    printed = capsys.readouterr().out
    for said in (
        "sampling in 2 steps of dpmsolver++, estimate",
        "4 chips (data 4), 64x32 pixels, 8 images a batch (2 a chip), given as prompts",
        "headroom, at most",
        "Left out: decoders other than the VAE's; HBM traffic; temporaries",
    ):
        assert said in printed, said
    unknown = [line for line in printed.splitlines() if "not known" in line]
    assert [line.split("|")[1].strip() for line in unknown] == ["memory", "interconnect"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--what=sample", "--images=6"], "--images=6 does not divide over 4 chips: use a multiple of 4"),
        (["--what=sample", "--inputs=latents"], "--inputs is for --what train"),
        (["--images=8"], "--images for --what sample"),
        (["--what=sample", "--images=0"], "--images=0"),
    ],
)
def test_what_does_not_go_together_is_one_line(flags, said, capsys):
    assert plan.main([f"--config={CONFIG}", "--topology=v5e-4", "--estimate", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_stage_that_makes_no_pictures_is_told_what_it_lacks(capsys):
    assert plan.main(["--config=configs/tiny.py:vae", "--topology=v5e-4", "--what=sample", "--estimate"]) == 2
    assert "sampling needs text_encoder, unet: plan a stage that has their sections" in capsys.readouterr().err


def test_sampling_with_a_mask_is_not_planned(capsys):
    assert plan.main(["--config=configs/tiny.py:inpaint", "--topology=v5e-4", "--what=sample", "--estimate"]) == 2
    assert "an inpainting UNet is shown a mask, which a plan of sampling has not" in capsys.readouterr().err
