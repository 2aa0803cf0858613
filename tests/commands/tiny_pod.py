"""configs/tiny.py's base stage as a config for pods: the frozen networks have sections, so that it can be planned."""

from ml_collections import ConfigDict

from configs import tiny


def get_config(stage: str = "base"):
    """A UNet that divides over 256 devices, on a batch of two images each."""
    c = tiny.base()
    c.train.trainable = ("xfnet", "unet")
    c.init.text_encoder = "nowhere/text"
    c.model.vae = tiny.vae().model.vae
    c.model.xfnet.width = c.model.xfnet.vector_width = 256
    level = {"channels": 256, "blocks": 1, "depth": 0, "heads": 2}
    c.model.unet = {"groups": 4, "levels": (ConfigDict(level),), "remat": True, "size_ids": 6}
    c.data.buckets = ((32, 32), (32, 64))
    c.data.tokenizer = ""
    c.train.dtype = "bfloat16"
    c.train.batch_size = 512
    c.mesh.data, c.mesh.fsdp = 1, -1
    return c
