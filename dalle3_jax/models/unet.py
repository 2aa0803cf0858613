"""The latent diffusion UNet: DALL-E 3's scale-shift conditioning; Stable Diffusion's and SDXL's are fields."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.models.examples import floats, require_component, text_mask
from dalle3_jax.models.token_grid import TokenGrid, add_at_places
from dalle3_jax.models.vae import depth_to_space, space_to_depth
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import EmbeddingMLP, conv, dense, embedding, guidance_sinusoids, sinusoids
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.nn.resnet import Downsample, ResBlock, Upsample
from dalle3_jax.nn.transformer import SpatialTransformer
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["SIZE_ID_WIDTH", "Level", "UNet"]

SIZE_ID_WIDTH = 256
"""Sinusoids per size id, as in SDXL (arXiv 2307.01952)."""


@dataclass(frozen=True)
class Level:
    """One resolution of the UNet: `blocks` residual blocks down and one more up.

    Each is followed by a transformer of `depth` layers (0: none) with `heads` heads; without `self_attend` both of a
    layer's attentions are to the text.
    """

    channels: int
    blocks: int = 2
    depth: int = 0
    heads: int = 8
    self_attend: bool = True


@accept_explicit_axes
class UNet(nn.Module):
    """Predicts noise, v or x0 from noisy latents, the network time and the text condition.

    `time_conditioning="scale_shift"` is DALL-E 3's modulated GroupNorm: every norm of a residual block, without
    weights of its own. `affine=True, modulate_first=False` make it diffusers' variant; `"add"` is Stable Diffusion's.
    `pooled` adds the condition's vector to the time embedding, `size_ids` SDXL's size, crop and target size with it.
    `context_width` and `vector_width` are those of the condition's tokens and vector where they are known (0: any).
    An upscaler's (see `models.upscaler`) is conditioned on the noise level of its low-resolution image too, by a second
    embedding added to that of the time: of sinusoids (`level_entries=0`) or a learned table of so many entries.
    A model distilled with guidance is given its scale (1: none) as an input instead of a null pass: as `guidance_width`
    sinusoids, added to those of the time by a linear map (diffusers' `time_cond_proj_dim`; 0: no such input).
    With a `grid` of (rows, columns) the condition's tokens are not only attended to: token i is that of the i-th cell,
    row by row, and a linear map of it is added to every level's first features at its place, whatever the picture's
    shape. Our choice: a name then says what is drawn where it stands without attention having first to learn that.
    `patch` folds pixels into channels before the first convolution. `norm="rms"` has no statistics over space.
    `eps` is that of the norms outside the transformers, `size_id_width` the number of sinusoids of a size id.
    """

    levels: tuple[Level, ...]
    in_channels: int = 4
    out_channels: int = 4
    time_conditioning: Literal["scale_shift", "add"] = "scale_shift"
    modulate_first: bool = True
    affine: bool = False
    pooled: bool = True
    size_ids: int = 0
    context_width: int = 0
    vector_width: int = 0
    level_entries: int | None = None
    middle_depth: int = 1
    middle_self_attend: bool = True
    patch: int = 1
    norm: Literal["group", "rms"] = "group"
    groups: int = 32
    qk_norm: bool = False
    embedding_ratio: int = 4
    eps: float = 1e-5
    size_id_width: int = SIZE_ID_WIDTH
    conv_in_kernel: int = 3
    conv_out_kernel: int = 3
    guidance_width: int = 0
    grid: tuple[int, int] | None = None
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Float[Array, " b"],
        condition: Condition | ProjectedCondition,
        sizes: Float[Array, "b s"] | None = None,
        noise_level: Float[Array, " b"] | None = None,
        guidance: Float[Array, " b"] | None = None,
        deep: Float[Array, "b h2 w2 c2"] | None = None,
    ) -> Float[Array, "b h w c_out"]:
        """One evaluation; t and noise_level are schedules' network times, sizes are in pixels, guidance is a scale.

        Any latent size works, any multiple of `patch` where pixels are folded. With the features `deep` of an earlier
        time only the first convolution and the last layer are evaluated (DeepCache, arXiv 2312.00858); without, they
        are sown as the intermediate "deep".
        """
        self.check_condition(condition)
        e = self._conditioning_embedding(t, condition, sizes, noise_level, guidance)
        top = self.levels[0].channels
        x = space_to_depth(x, self.patch).astype(self.dtype)
        first = conv(top, self.conv_in_kernel, dtype=self.dtype, name="conv_in")(x)
        first = self._add_grid(first, condition, 0)
        if deep is None:
            deep = self._deep_features(first, e, condition)
            self.sow("intermediates", "deep", deep)
        last = self.levels[0].blocks
        x = self._layer(jnp.concatenate([deep, first], axis=-1), e, condition, self.levels[0], f"up_0_{last}")

        rms = self.norm == "rms"
        norm = RMSNorm(self.eps, name="norm_out") if rms else GroupNorm(self.groups, self.eps, name="norm_out")
        # The first guess of a new network is zero.
        features, kernel = self.out_channels * self.patch**2, self.conv_out_kernel
        out = conv(features, kernel, dtype=self.dtype, zero=True, name="conv_out")(nn.silu(norm(x)))
        return depth_to_space(out, self.patch).astype(jnp.float32)

    def _deep_features(self, x: Array, e: Array, condition: Condition | ProjectedCondition) -> Array:
        """The features that the last layer is given beside the first convolution's output."""
        skips = [x]
        for i, level in enumerate(self.levels):
            for j in range(level.blocks):
                x = self._layer(x, e, condition, level, f"down_{i}_{j}")
                skips.append(x)
            if i < len(self.levels) - 1:
                x = Downsample(level.channels, dtype=self.dtype, name=f"down_{i}_downsample")(x)
                x = self._add_grid(x, condition, i + 1)
                skips.append(x)

        bottom = self.levels[-1]
        x = self._block(bottom.channels, "middle_block_0")(x, e)
        x = self._attend(x, condition, self._middle_level(), "middle_transformer")
        x = self._block(bottom.channels, "middle_block_1")(x, e)

        for i, level in reversed(list(enumerate(self.levels))):
            for j in range(level.blocks + (i > 0)):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = self._layer(x, e, condition, level, f"up_{i}_{j}")
            if i > 0:
                _, height, width, _ = skips[-1].shape
                x = Upsample(level.channels, dtype=self.dtype, name=f"up_{i}_upsample")(x, (height, width))
        return x

    @nn.nowrap
    def transformers(self) -> Iterator[tuple[str, SpatialTransformer]]:
        """Every transformer by its name, apart from the network."""
        for i, level in enumerate(self.levels):
            names = [f"down_{i}_{j}" for j in range(level.blocks)] + [f"up_{i}_{j}" for j in range(level.blocks + 1)]
            yield from ((f"{name}_transformer", self._transformer(level, None)) for name in names if level.depth)
        if self.middle_depth:
            yield "middle_transformer", self._transformer(self._middle_level(), None)

    @nn.nowrap
    def token_grids(self) -> Iterator[tuple[str, TokenGrid]]:
        """Every level's map of the tokens onto the grid by its name, apart from the network."""
        if self.grid:
            for i, level in enumerate((self.levels[0], *self.levels[:-1])):
                yield f"grid_{i}", TokenGrid(self.grid, level.channels, self.dtype, parent=None)

    def _middle_level(self) -> Level:
        return dataclasses.replace(self.levels[-1], depth=self.middle_depth, self_attend=self.middle_self_attend)

    @nn.nowrap
    def check_condition(self, condition: Condition | ProjectedCondition) -> None:
        """Raise ValueError for a condition of other widths than those that the UNet takes."""
        projected = isinstance(condition, ProjectedCondition)
        widths = [] if projected else [("tokens", self.context_width, condition.tokens)]
        widths += [("a vector", self.vector_width, condition.vector)] if self.pooled else []
        if wrong := [f"{what} of {w}, not {x.shape[-1]}" for what, w, x in widths if w not in (0, x.shape[-1])]:
            raise ValueError(f"the condition does not fit this UNet, which takes {' and '.join(wrong)}")

    def _conditioning_embedding(
        self,
        t: Array,
        condition: Condition | ProjectedCondition,
        sizes: Array | None,
        noise_level: Array | None,
        guidance: Array | None,
    ) -> Array:
        width = self.embedding_ratio * self.levels[0].channels
        e = EmbeddingMLP(width, self.dtype, name="time_embedding")(self._time_input(t, guidance))
        extra = [condition.vector.astype(jnp.float32)] if self.pooled else []
        if self.size_ids:
            if sizes is None or sizes.shape[-1] != self.size_ids:
                raise ValueError(
                    f"this UNet is conditioned on {self.size_ids} size ids: pass sizes (b, {self.size_ids})"
                )
            extra.append(sinusoids(sizes.reshape(-1), self.size_id_width).reshape(sizes.shape[0], -1))
        if extra:
            e = e + EmbeddingMLP(width, self.dtype, name="condition_embedding")(jnp.concatenate(extra, axis=-1))
        return e if self.level_entries is None else e + self._level_embedding(noise_level, width)

    def _time_input(self, t: Array, guidance: Array | None) -> Array:
        top = self.levels[0].channels
        if not self.guidance_width:
            return sinusoids(t, top)
        if guidance is None:
            raise ValueError("this UNet is conditioned on the guidance scale: pass guidance")
        # Zero in a new network: it begins as its teacher, which has no such input.
        project = dense(top, use_bias=False, zero=True, dtype=self.dtype, name="guidance_projection")
        return sinusoids(t, top) + project(guidance_sinusoids(guidance, self.guidance_width))

    def _level_embedding(self, noise_level: Array | None, width: int) -> Array:
        if noise_level is None:
            raise ValueError("this UNet is conditioned on the noise level of a low-resolution image: pass noise_level")
        if not self.level_entries:
            return EmbeddingMLP(width, self.dtype, name="level_embedding")(
                sinusoids(noise_level, self.levels[0].channels)
            )
        rows = jnp.clip(jnp.round(noise_level), 0, self.level_entries - 1).astype(jnp.int32)
        return embedding(self.level_entries, width, dtype=self.dtype, name="level_table")(rows)

    def _add_grid(self, x: Array, condition: Condition | ProjectedCondition, level: int) -> Array:
        if not self.grid:
            return x
        if isinstance(condition, ProjectedCondition):
            return add_at_places(x, condition.grids[level])
        place = TokenGrid(self.grid, x.shape[-1], self.dtype, name=f"grid_{level}")
        return add_at_places(x, place(condition.tokens))

    def _layer(self, x: Array, e: Array, condition: Condition | ProjectedCondition, level: Level, name: str) -> Array:
        x = self._block(level.channels, f"{name}_block")(x, e)
        return self._attend(x, condition, level, f"{name}_transformer")

    def _attend(self, x: Array, condition: Condition | ProjectedCondition, level: Level, name: str) -> Array:
        if not level.depth:
            return x
        context = condition.keys[name] if isinstance(condition, ProjectedCondition) else condition.tokens
        return self._transformer(level, name)(x, context, condition.mask)

    def _block(self, features: int, name: str) -> ResBlock:
        block = nn.remat(ResBlock) if self.remat else ResBlock
        return block(
            features,
            conditioning=self.time_conditioning,
            modulate_first=self.modulate_first,
            affine=self.affine,
            norm=self.norm,
            groups=self.groups,
            eps=self.eps,
            dtype=self.dtype,
            name=name,
        )

    @nn.nowrap
    def _transformer(self, level: Level, name: str | None) -> SpatialTransformer:
        """The transformer of a level under a name of this network; one apart from it without a name."""
        if level.channels % level.heads:
            raise ValueError(f"level of {level.channels} channels is not a multiple of its {level.heads} heads")
        place: dict[str, Any] = {"name": name} if name else {"parent": None}
        return SpatialTransformer(
            level.depth,
            level.heads,
            level.channels // level.heads,
            self_attend=level.self_attend,
            norm=self.norm,
            groups=self.groups,
            qk_norm=self.qk_norm,
            remat=self.remat,
            dtype=self.dtype,
            **place,
        )

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        context, vector = self.context_width, self.vector_width
        if not context:
            adapter = modules.get("layout_encoder") or require_component("xfnet", modules, self)
            context, vector = adapter.width, adapter.vector_width
        tokens = math.prod(self.grid) if self.grid else 8
        condition = Condition(floats(1, tokens, context), text_mask(tokens), floats(1, max(vector, 1)))
        sizes = floats(1, self.size_ids) if self.size_ids else None
        noise_level = None if self.level_entries is None else floats(1)
        guidance = floats(1) if self.guidance_width else None
        side = 8 * self.patch
        return floats(1, side, side, self.in_channels), floats(1), condition, sizes, noise_level, guidance
