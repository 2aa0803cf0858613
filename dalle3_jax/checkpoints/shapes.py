"""What parameters the networks of a system have: names, shapes and logical axes, without computing any."""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.latent_head import LatentHead
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet

__all__ = ["abstract_params", "example_inputs"]


def abstract_params(modules: Mapping[str, nn.Module], names: Collection[str] | None = None) -> dict[str, Any]:
    """{component: tree of shapes}, leaves boxed with their logical axes (`nn.unbox` drops them), of some or all.

    Raises ValueError where a network's input width is another network's and that one is missing.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    return {
        name: jax.eval_shape(modules[name].init, key, *example_inputs(modules[name], modules))["params"]
        for name in (modules if names is None else names)
    }


def example_inputs(module: nn.Module, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
    """Shapes of the smallest inputs `module` takes within its system: what its `init` is called with."""
    tokens: Any = jax.ShapeDtypeStruct((1, 8), jnp.bool_)
    match module:
        case T5Encoder():
            return jax.ShapeDtypeStruct((1, 8), jnp.int32), tokens
        case CLIPTextEncoder() | CLIP():
            length = min(8, module.positions)
            text = jax.ShapeDtypeStruct((1, length), jnp.int32), jax.ShapeDtypeStruct((1, length), jnp.bool_)
            images = (_floats(1, module.image_size, module.image_size, 3),) if isinstance(module, CLIP) else ()
            return *text, *images
        case XFNet():
            text = _floats(1, 8, _input("text_encoder", modules, module).width), tokens
            if not module.glyphs:
                return text
            return *text, (_floats(1, 8, _input("glyph_encoder", modules, module).width), tokens)
        case LatentHead():
            return (_floats(1, module.grid[0] * module.grid[1], _input("xfnet", modules, module).width),)
        case UNet():
            context, vector = module.context_width, module.vector_width
            if not context:
                adapter = _input("xfnet", modules, module)
                context, vector = adapter.width, adapter.vector_width
            condition = Condition(_floats(1, 8, context), tokens, _floats(1, max(vector, 1)))
            sizes = (_floats(1, module.size_ids),) if module.size_ids else ()
            return _floats(1, 8, 8, module.in_channels), _floats(1), condition, *sizes
        case VAE():
            return (_floats(1, 4 * module.factor, 4 * module.factor, 3),)
        case DecoderUNet():
            side = 2 * module.factor
            latents = _floats(1, 2, 2, module.latent_channels)
            return _floats(1, side, side, module.image_channels), _floats(1), latents
        case Captioner():
            length = min(8, module.positions)
            text = jax.ShapeDtypeStruct((1, length), jnp.int32), jax.ShapeDtypeStruct((1, length), jnp.bool_)
            return *text, _floats(1, *module.image_size, 3)
        case SizeHead():
            return _floats(1, 8, module.width), tokens
        case SceneReader():
            return (_floats(1, 16, 16, 3),)
    raise ValueError(f"no example inputs are known for a {type(module).__name__}")


def _floats(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _input(component: str, modules: Mapping[str, nn.Module], wanted_by: nn.Module) -> Any:
    """The system's network of this name."""
    if component not in modules:
        raise ValueError(f"a {type(wanted_by).__name__} takes its input from {component}, which the system lacks")
    return modules[component]
