"""dalle3-jax plan: without the chips, without weights, and with the figures that shapes and layouts have."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest
from flax import linen as nn
from ml_collections import ConfigDict

from configs import tiny
from dalle3_jax import convert
from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.commands import plan
from dalle3_jax.loading.locate import DEMO
from dalle3_jax.models.build import build_models
from dalle3_jax.nn import backend
from dalle3_jax.planning import training_step
from dalle3_jax.planning.chips import parse_topology
from dalle3_jax.stages.config import load_config, plain_config
from dalle3_jax.stages.config_files import find_config
from dalle3_jax.stages.initial_networks import add_initial_sections
from tests import public_folders
from tests.commands import tiny_pod

CONFIG = "tests/commands/tiny_pod.py:base"
PLANS = Path(__file__).parents[2] / "docs" / "plans"
COMPARED = sorted(path.stem for path in PLANS.glob("*.json") if path.with_name(f"{path.stem}_estimate.json").exists())
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


def planned(capsys, *flags):
    assert plan.main([f"--config={CONFIG}", "--json=-", *flags]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def counts():
    boxed = abstract_params(build_models(plain_config(tiny_pod.get_config().model)))
    return {part: sum(leaf.size for leaf in jax.tree.leaves(nn.unbox(tree))) for part, tree in boxed.items()}


@pytest.fixture(scope="module")
def estimates():
    """Plans of three images a chip: on 16 and 256 chips, and on 16 where text features are cached."""
    ways = {"16": ("v5e-16", 48, "images"), "256": ("v5e-256", 768, "images"), "features": ("v5e-16", 48, "features")}
    found = {}
    for name, (slices, batch, inputs) in ways.items():
        [config, _] = load_config([f"--config={CONFIG}", "--workdir=plan", f"--config.train.batch_size={batch}"])
        found[name] = json.loads(
            training_step.plan_training(config, CONFIG, parse_topology(slices), (32, 64), inputs, "estimate").to_json()
        )
    return found


def test_an_estimate_has_the_bytes_and_flops_of_the_shapes_from_16_to_256_chips(estimates, counts):
    few, many = estimates["16"], estimates["256"]
    assert few["parameters"] == {part: counts[part] for part in ("unet", "xfnet", "text_encoder", "vae")}
    trained = 4 * (counts["unet"] + counts["xfnet"])
    for found, chips in ((few, 16), (many, 256)):
        share = trained / chips
        assert share <= found["memory"]["parameters"] <= share + 200_000  # and the vectors
        assert found["memory"]["moving average"] == found["memory"]["parameters"]
        assert found["memory"]["moments"] == pytest.approx(2 * found["memory"]["parameters"], rel=1e-3)
        assert found["batch"] == 3 * chips
    assert many["flops"] == pytest.approx(few["flops"], rel=1e-6)  # a chip's work stays as hosts are added
    assert many["memory"]["kept for the backward pass"] == few["memory"]["kept for the backward pass"] > 0
    assert many["model_flops"] < many["flops"] < 1.4 * many["model_flops"]  # what rematerialisation adds
    assert set(many["collectives"]) == {"all-gather", "reduce-scatter"}


def test_what_batches_hold_decides_which_frozen_networks_run(estimates):
    assert estimates["16"]["flops"] > estimates["features"]["flops"]
    assert set(estimates["16"]["parameters"]) - {"unet", "xfnet"} == {"vae", "text_encoder"}
    assert set(estimates["features"]["parameters"]) == {"unet", "xfnet"}


@pytest.mark.parametrize("stage", ["inpaint", "image_prompt"])
def test_stages_that_begin_with_a_base_model_are_planned_by_the_networks_of_their_config(stage, capsys, monkeypatch):
    platforms, measure = [], training_step.MEASURES["estimate"]

    def estimate(*given):
        monkeypatch.setattr(backend, "target_platform", lambda: platforms.append(target()) or platforms[-1])
        measured = measure(*given)
        monkeypatch.setattr(backend, "target_platform", target)
        return measured

    target = backend.target_platform
    monkeypatch.setitem(training_step.MEASURES, "estimate", estimate)
    words = [f"--config=configs/tiny.py:{stage}", "--topology=v5e-4", "--estimate", "--json=-"]
    assert plan.main(words) == 0
    planned = json.loads(capsys.readouterr().out)
    assert set(planned["parameters"]) == {"text_encoder", "xfnet", "unet", "vae"} | (
        {"captioner", "image_prompt"} if stage == "image_prompt" else set()
    )
    assert planned["memory"]["moments"] > 0
    assert set(platforms) == {"tpu"}
    assert plan.main([*words, "--inputs=latents"]) == 2
    assert f"the stage {stage} sees the images themselves" in capsys.readouterr().err


def test_a_quick_plan_compiles_for_the_cpu_and_agrees_with_the_estimate(capsys, estimates):
    quick, estimate = planned(capsys, "--topology=v5e-16", "--quick", "--config.train.batch_size=48"), estimates["16"]
    assert quick["flops"] == pytest.approx(estimate["flops"], rel=0.1)
    assert quick["memory"]["temporaries"] > 0
    assert quick["bytes"] > 0
    assert quick["left_out"]
    assert estimate["left_out"]


def test_a_table_and_files_are_written(capsys, tmp_path):
    assert plan.main([f"--config={CONFIG}", "--topology=v5e-4", "--estimate", f"--out={tmp_path / 'p'}"]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "p.md").read_text()
    assert "4 chips (fsdp 2 x fsdp_inner 2), 64x32 pixels, 512 images a step (128 a chip)" in printed  # the largest
    assert json.loads((tmp_path / "p.json").read_text())["topology"] == "v5e:2x2"


def test_networks_that_config_init_names_are_those_of_the_stages_that_make_them():
    [config, _] = load_config(["--config=tiny:distill_base", "--workdir=plan"])
    given = {component: config.model.get(component) for component in config.init}
    add_initial_sections(config, find_config("tiny"))
    modules, made = build_models(plain_config(config.model)), tiny_stages()
    for component, where in config.init.items():
        assert component in modules
        if given[component] is None:
            assert modules[component] == made[where if component != "vae" else "vae"][component]


def tiny_stages():
    """The networks of the stages of configs/tiny.py by stage, with those that they begin with."""
    models = {name: tiny.get_config(name).model for name in ("vae", "text", "base")}
    found = {name: build_models(plain_config(model)) for name, model in models.items()}
    return {name: {**found["text"], **modules} for name, modules in found.items()}


def test_networks_of_releases_and_public_folders_are_those_of_their_records(tmp_path):
    folder = public_folders.network(tmp_path / "vae", public_folders.VAE)
    config = ConfigDict({"model": {}, "init": {"vae": str(folder), "unet": "demo", "text_encoder": "org/name"}})
    refiner = public_folders.stable_diffusion_refiner(tmp_path / "refiner")  # whose text encoder lies in text_encoder_2
    of_refiner = ConfigDict({"model": {}, "init": {"text_encoder": str(refiner)}})
    add_initial_sections(of_refiner, find_config("tiny"))
    assert of_refiner.model.text_encoder.network == "clip_text"
    add_initial_sections(config, find_config("tiny"))
    modules = build_models(plain_config(config.model))
    assert modules["vae"] == convert.open(folder).module
    assert modules["unet"] == load_release(DEMO, ["unet"]).modules["unet"]
    assert "text_encoder" not in config.model
    with pytest.raises(ValueError, match=r"config\.init\.captioner: the release in .* has none"):
        add_initial_sections(ConfigDict({"model": {}, "init": {"captioner": "demo"}}), find_config("tiny"))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--topology=v7:2"], "chips are v4"),
        (["--topology=v5e-256", "--config.train.batch_size=100"], "batch_size=100 does not divide into 256"),
        (["--topology=v5e-16", "--config.mesh.fsdp=3"], "does not fit 16 devices"),
        (["--topology=v5e-16", "--config.train.stepz=1"], "stepz"),
        (["--topology=v5e-16", "--config.train.stage=captioner"], "the stage captioner cannot be planned"),
    ],
)
def test_what_cannot_be_planned_is_one_line(flags, said, capsys):
    assert plan.main([f"--config={CONFIG}", "--estimate", *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_networks_without_sections_are_named(capsys):
    here = ["--config=configs/tiny.py:base", "--topology=v5e:2x2", "--estimate", "--config.init.vae=org/vae"]
    assert plan.main(here) == 2
    assert "config.init names vae without sections in config.model" in capsys.readouterr().err


def test_without_libtpu_the_remedy_is_named(capsys, monkeypatch):
    def missing(**kwargs):
        raise RuntimeError("Unable to initialize backend 'tpu': libtpu.so not found")

    monkeypatch.setattr("jax.experimental.topologies.get_topology_desc", missing)
    assert plan.main([f"--config={CONFIG}", "--topology=v5e-16", "--config.train.batch_size=32"]) == 2
    assert "pip install 'dalle3_jax[plan]', or use --estimate" in capsys.readouterr().err


@pytest.mark.skipif(
    not (find_spec("libtpu") or os.environ.get("TPU_LIBRARY_PATH")), reason="compiles for a TPU: needs libtpu"
)
def test_an_estimate_agrees_with_the_program_compiled_for_the_chips():
    """In a process of its own, optimised as ever: of what libtpu compiles only that is like a pod's."""
    quicker = ("JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in quicker}
    command = [sys.executable, "-m", "dalle3_jax", "plan", f"--config={CONFIG}", "--topology=v5e:2x2", "--json=-"]
    command += ["--config.train.batch_size=8"]
    done = {
        how: subprocess.run(
            [*command, *flags], env=environment, capture_output=True, text=True, check=False, timeout=400
        )
        for how, flags in (("full", ()), ("estimate", ("--estimate",)))
    }
    if "in another process" in done["full"].stderr:
        pytest.skip("libtpu is at work in another process")
    full, estimate = (json.loads(one.stdout) for one in done.values())
    assert estimate["flops"] == pytest.approx(full["flops"], rel=0.1)
    for kind in ("parameters", "moving average", "moments", "frozen networks", "batch"):
        assert full["memory"][kind] == estimate["memory"][kind]
    moved = [sum(row["moved"] for row in found["collectives"].values()) for found in (full, estimate)]
    assert moved[1] == pytest.approx(moved[0], rel=0.25)
    assert "all-to-all" not in full["collectives"]


@pytest.mark.parametrize("name", COMPARED)
def test_committed_estimates_agree_with_the_programs_that_were_compiled(name):
    full, estimate = (json.loads((PLANS / f"{name}{how}.json").read_text()) for how in ("", "_estimate"))
    assert (full["how"], estimate["how"]) == ("full", "estimate")
    for same in ("config", "topology", "mesh", "bucket", "batch", "inputs", "parameters", "capacity", "model_flops"):
        assert full[same] == estimate[same], same
    assert estimate["flops"] == pytest.approx(full["flops"], rel=0.1)
    assert estimate["seconds"]["interconnect"] == pytest.approx(full["seconds"]["interconnect"], rel=0.15)
    for kind in ("parameters", "moving average", "moments", "frozen networks", "batch"):
        assert full["memory"][kind] == estimate["memory"][kind]
    assert full["model_flops"] < full["flops"]
