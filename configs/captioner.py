"""The captioner for pods: CoCa with OpenCLIP's ViT-L/14 towers and T5's tokenizer, at 224 px, 612 M parameters.

    python train.py --config configs/captioner.py:captioner             --workdir W --config.data.source=DATA
    python train.py --config configs/captioner.py:captioner_short       --workdir W --config.data.source=SHORT
    python train.py --config configs/captioner.py:captioner_descriptive --workdir W --config.data.source=LONG
    dalle3-jax recaption --source DATA --captioner W/captioner_descriptive --version captioner_descriptive --outdir OUT

with `--config.data.tokenizer=FOLDER` of any T5. DATA has alternative texts (`alt`), SHORT and LONG a few thousand
pictures each with captions of the main subject (`short`) and of everything (`descriptive`). Batch and steps are ours:
the paper says neither. It was built in shapes alone and never trained; configs/demo.py has the same stages at a size
that was.
"""

from configs import common


def shared_config():
    """What all stages share."""
    c = common.get_config("captioner")
    c.train.trainable = ("captioner",)
    c.data.source = ""
    c.data.size = (224, 224)
    c.data.tokenizer = ""
    c.data.text_length = 128
    c.data.dropout = 0.0
    c.data.threads = 64
    c.train.dtype = "bfloat16"
    c.train.batch_size = 1024
    c.train.ema = 0.9999
    c.train.weight_decay = 0.1
    c.train.save_every = 2_500
    c.train.compile_first = True
    c.mesh.data = 1
    c.mesh.fsdp = -1
    c.sample.every = 2_500
    c.sample.count = 24
    return c


def captioner():
    """From nothing, on alternative texts."""
    c = shared_config()
    text = {"width": 768, "layers": 12, "heads": 12, "mlp_width": 3072, "activation": "gelu"}
    c.model.captioner = {
        "vision": {"width": 1024, "layers": 24, "heads": 16, "mlp_width": 4096, "activation": "gelu"},
        "text": text,
        "decoder": text,
        "vocab_size": 32128,
        "positions": 128,
        "image_size": (224, 224),
        "patch": 14,
        "projection": 768,
        "queries": 256,
        "remat": True,
    }
    c.data.captions = {"alt": 1.0}
    c.train.batch_size = 8192
    c.train.steps = 250_000
    c.train.learning_rate = 5e-4
    c.train.warmup = 10_000
    return c


def fine_tune(version):
    """On a small set of captions of one kind."""
    c = shared_config()
    c.train.name = f"captioner_{version}"
    c.init.captioner = "captioner"
    c.data.captions = {version: 1.0}
    c.train.batch_size = 256
    c.train.steps = 1_000
    c.train.learning_rate = 2e-5
    c.train.warmup = 100
    c.train.ema = 0.99
    return c


def get_config(stage: str = "captioner"):
    """The config of one stage."""
    if stage == "captioner":
        return captioner()
    if stage in ("captioner_short", "captioner_descriptive"):
        return fine_tune(stage.removeprefix("captioner_"))
    raise ValueError(
        f"configs/captioner.py has no stage {stage!r}: use captioner, captioner_short, captioner_descriptive"
    )
