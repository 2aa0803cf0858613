"""Images to the latents that the UNet works in, and back, by the VAE or by a decoder beside it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.decoders import FittedDecoder, apply_decoder
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import SETTINGS, Decoding
from dalle3_jax.pipeline.setting_values import Capabilities
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Float, Params

__all__ = ["ImageCodec"]

WHOLE_VAE = Decoding()


class ImageCodec:
    """The VAE of a pipeline and the decoders beside it, on the devices of its mesh."""

    def __init__(
        self,
        system: PipelineSpec,
        vae: Params,
        decoders: Mapping[str, FittedDecoder],
        mesh: Mesh | None = None,
    ):
        """Takes the VAE's parameters, and decoders that fit its latents by name."""
        self.system, self.mesh = system, mesh
        self._params, self._decoders = {"vae": vae}, decoders

    @property
    def decoders(self) -> tuple[str, ...]:
        """The names of the decoders."""
        return ("vae", *self._decoders)

    def encode(self, images: Any, tile: int = 0) -> Float[Array, "b h w c"]:
        """The latents that the UNet works in, of images (b H W 3) in [-1, 1]: `decode` turns them back.

        In windows of `tile` pixels a side where that is not 0.
        """
        rows, cells = shard_rows(images, self.mesh), tile // self.system.latent.factor
        with programs.batch_over_mesh(self.mesh, len(images)):
            latents = programs.encode_images(self._params["vae"], rows, vae=self.system.vae, tile=cells)
        return self.system.latent.normalise(latents)

    def decode(
        self, latents: Float[Array, "b h w c"], decoding: Decoding = WHOLE_VAE, seeds: Sequence[int] | None = None
    ) -> Float[Array, "b H W 3"]:
        """Images in about [-1, 1] from the latents that the UNet works in.

        A decoder's noise comes from the seeds, one an image (0, 1, 2, ... by default). Raises ValueError for an unknown
        decoder, wrong latents, and what `tiling.apply_in_tiles` refuses.
        """
        latent, name = self.system.latent, decoding.decoder
        self._check_channels(latents)
        latents = shard_rows(latents, self.mesh)
        if error := SETTINGS["decoder"].error(name, Capabilities(samplers=(), decoders=self.decoders)):
            raise ValueError(error)
        if name != "vae":
            decoder = self._decoders[name]
            rows = shard_rows(np.asarray(range(len(latents)) if seeds is None else seeds, np.uint32), self.mesh)
            with programs.batch_over_mesh(self.mesh, len(latents)):
                latents = apply_decoder(decoder, latents, rows, latent, decoding)
            if decoder.module.factor > 1:
                return latents
        with programs.batch_over_mesh(self.mesh, len(latents)):
            tile = decoding.tile // latent.factor
            return programs.decode_latents(self._params, latents, system=self.system, tile=tile)

    def decode_sharded(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W 3"]:
        """The VAE's images of a few large latents, the rows of every image sharded over the mesh's devices.

        Equal to `decode`, which shards whole images. Raises ValueError without a mesh, and for rows of latents that its
        devices do not divide.
        """
        self._check_channels(latents)
        if self.mesh is None or latents.shape[1] % self.mesh.size:
            where = f"{self.mesh.size} devices" if self.mesh else "no mesh"
            need = "decode_sharded needs a pipeline with a mesh, and rows that its devices divide; decode needs neither"
            raise ValueError(f"{latents.shape[1]} rows of latents on {where}: {need}")
        rows = NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))
        with jax.set_mesh(self.mesh):
            return programs.decode_sharded(self._params, jax.device_put(latents, rows), system=self.system)

    def _check_channels(self, latents: Array) -> None:
        channels = self.system.latent.channels
        if latents.shape[-1] != channels:
            raise ValueError(f"latents of {latents.shape[-1]} channels: those of this release have {channels}")
