"""Shapes of parameters: those that are read from a file are those that are traced."""

import dataclasses
from pathlib import Path

import jax
import pytest

from dalle3_jax.checkpoints.shapes import abstract_params
from tests.tiny import tiny_release


@pytest.fixture(autouse=True)
def folder(tmp_path: Path):
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def test_shapes_that_are_read_are_those_that_are_traced(folder, monkeypatch):
    modules = tiny_release().modules
    traced = abstract_params(modules)
    assert len(list(folder.iterdir())) == len(modules)
    with monkeypatch.context() as patch:
        for module in modules.values():
            patch.setattr(type(module), "init", None)
        read = abstract_params(modules)
    assert read == traced
    assert jax.tree.structure(read) == jax.tree.structure(traced)  # with the logical axes
    jax.config.update("jax_compilation_cache_dir", None)
    assert abstract_params(modules) == traced


def test_a_network_of_other_fields_is_traced(folder):
    modules = tiny_release().modules
    abstract_params(modules, ["xfnet"])
    vae = modules["vae"]
    first = abstract_params(modules, ["vae"])
    other = abstract_params({"vae": dataclasses.replace(vae, latent_channels=vae.latent_channels + 1)})
    assert first != other
    assert len(list(folder.iterdir())) == 3
