"""An open DALL-E 3 in JAX/Flax.

The two flows through the package:

    generate   prompt -> token ids, mask -> T5: text features (b l d) -> xfnet: tokens (b m d), vector (b v)
               -> UNet inside one jitted sampling loop -> latents (b h w c)
               -> decoder: vae | consistency | refiner + vae -> image (b 8h 8w 3) -> PNG + metadata

    train      records (image, captions, size) -> caption choice, crop -> batch -> objective -> TrainState
               -> checkpoint -> release
"""
