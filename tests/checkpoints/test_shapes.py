"""Shapes of parameters: traced once, read from a file by the next process, and everyone has a tree of their own."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from dalle3_jax.checkpoints.shapes import _network_shapes, abstract_params
from tests.tiny import tiny_release

traced = []


class Layer(nn.Module):
    width: int

    def example_inputs(self, modules):
        return (jax.ShapeDtypeStruct((1, modules["other"].width), jnp.float32),)

    @nn.compact
    def __call__(self, x):
        traced.append(x.shape)
        return nn.Dense(self.width)(x)


def kernel(width: int, inputs: int) -> tuple[int, ...]:
    """The shape of a kernel in a system whose other network has so many outputs."""
    modules = {"layer": Layer(width), "other": Layer(inputs)}
    return abstract_params(modules, ["layer"])["layer"]["Dense_0"]["kernel"].shape


@pytest.fixture(autouse=True)
def folder(tmp_path: Path):
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    _network_shapes.cache_clear()
    yield tmp_path / "traced"
    jax.config.update("jax_compilation_cache_dir", before)


def test_shapes_that_are_read_are_those_that_are_traced(folder, monkeypatch):
    modules = tiny_release().modules
    traced = abstract_params(modules)
    assert len(list(folder.iterdir())) == len(modules)
    _network_shapes.cache_clear()
    with monkeypatch.context() as patch:
        for module in modules.values():
            patch.setattr(type(module), "init", None)
        read = abstract_params(modules)
    assert read == traced
    assert jax.tree.structure(read) == jax.tree.structure(traced)  # with the logical axes
    jax.config.update("jax_compilation_cache_dir", None)
    _network_shapes.cache_clear()
    assert abstract_params(modules) == traced


def test_a_network_of_other_fields_is_traced(folder):
    modules = tiny_release().modules
    abstract_params(modules, ["xfnet"])
    vae = modules["vae"]
    first = abstract_params(modules, ["vae"])
    other = abstract_params({"vae": dataclasses.replace(vae, latent_channels=vae.latent_channels + 1)})
    assert first != other
    assert len(list(folder.iterdir())) == 3


def test_a_network_is_traced_once_for_each_shape_of_its_inputs():
    traced.clear()
    for _ in range(2):
        assert [kernel(3, 5), kernel(3, 7), kernel(4, 5)] == [(5, 3), (7, 3), (5, 4)]
    assert traced == [(1, 5), (1, 7), (1, 5)]


def test_what_one_does_to_its_tree_no_other_sees():
    modules = {"layer": Layer(2), "other": Layer(2)}
    first = abstract_params(modules, ["layer"])
    del first["layer"]["Dense_0"]["kernel"]
    assert abstract_params(modules, ["layer"])["layer"]["Dense_0"].keys() == {"kernel", "bias"}
