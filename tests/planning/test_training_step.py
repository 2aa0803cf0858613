"""Batches that a plan supposes are those that the loss of the stage reads."""

import jax
import pytest

from dalle3_jax.planning import training_step
from dalle3_jax.stages.config import load_config
from dalle3_jax.stages.config_files import find_config
from dalle3_jax.stages.initial_networks import add_initial_sections
from dalle3_jax.training import sharding


def load(stage):
    given = load_config([f"--config=tiny:{stage}", "--workdir=plan"])
    assert given is not None
    add_initial_sections(given[0], find_config("tiny"))
    return given[0]


@pytest.mark.parametrize("stage", ["text", "layout", "drawing"])
def test_a_stage_is_planned_with_what_its_loss_reads(stage):
    config = load(stage)
    mesh = sharding.make_mesh({})
    with jax.set_mesh(mesh):
        program = training_step.training_program(config, mesh, (32, 32), "images")
        state, metrics = jax.eval_shape(program.raw_step, program.state, program.frozen, program.batch)
    assert metrics["loss"].shape == ()
    assert state.params.keys() == program.state.params.keys()


def test_a_stage_of_labels_and_images_takes_no_latents_in_their_place():
    config, mesh = load("drawing"), sharding.make_mesh({})
    with jax.set_mesh(mesh), pytest.raises(ValueError, match="labels and images together"):
        training_step.training_program(config, mesh, (32, 32), "latents")
