"""What every config starts from: all keys with their defaults. Configs change these and add networks."""

from ml_collections import ConfigDict

PERTURBATION = {"noise": 0.0, "resampled": 0.0, "strength": 0.5, "steps": 2}
"""Latents corrupted as the base model corrupts its own (dalle3_jax.training.tasks.Perturbation)."""

OBJECTIVES = {
    "vae": {"kl_weight": 1e-6, "gradient_weight": 0.5, "scale": "deviation"},
    "drawing": {"time_shift": 1.0, "blurred": 0.5},  # blurred: share of pictures whose places are said more or less
    "base": {"time_shift": 1.0},  # above 1: more noisy times
    "decoder": {
        "time_shift": 1.0,
        "crop": 0,
        "perturbation": PERTURBATION,
    },  # crop: side in pixels of what is trained on
    # teacher False: from the data alone; top: where x is nothing but noise; parts: of [0, top], at first and at the end
    "distill": {"teacher": True, "top": 0.985, "parts": (8, 64), "crop": 0, "perturbation": PERTURBATION},
    # guidance_scales: of the teacher, from and to; mean, std: of log(sigma / alpha) at the times that are drawn
    "distill_base": {"guidance_scales": (1.0, 1.0), "mean": 0.0, "std": 1.6, "warmup": 1_000},
    "inpaint": {"time_shift": 1.0, "whole": 0.2},  # whole: share of masks that cover the image
    "image_prompt": {"time_shift": 1.0, "image_dropout": 0.1},  # image_dropout: share of images replaced by none
    "captioner": {"contrastive": 1.0, "caption": 2.0},  # weights of its losses
    "upscaler": {"time_shift": 1.0, "most_noise": 0.35},  # most_noise: highest time of low-resolution images' noise
    "distill_upscaler": {"top": 0.985, "parts": (8, 64), "guidance_scale": 1.0, "most_noise": 0.35},
}
OBJECTIVES |= {"refiner": OBJECTIVES["decoder"], "distill_refiner": OBJECTIVES["distill"]}
"""Stage -> its train.objective, as the functions in dalle3_jax.stages have it, which a test compares; others: none."""


def set_stage(c: ConfigDict, stage: str) -> None:
    """Make it a config of this stage; what its objective has in common with that of the stage before stays."""
    before, c.train.stage = c.train.objective, stage
    c.train.objective = ConfigDict({**OBJECTIVES.get(stage, {})})
    for key in set(before) & set(c.train.objective):
        c.train.objective[key] = before[key]
    c.train.objective.lock()


def distill_from(c: ConfigDict, stage: str) -> ConfigDict:
    """The config of the stage that distills what this one trains, which becomes its teacher and has no new network."""
    [component] = c.train.trainable
    del c.model[component]
    c.init[component] = c.train.stage
    set_stage(c, stage)
    return c


def get_config(stage: str = "") -> ConfigDict:
    """All keys of a config of this stage; a config or a flag that names another one is an error."""
    c = ConfigDict()

    c.model = ConfigDict()  # text_encoder, xfnet, unet, vae: fields of dalle3_jax.models
    c.model.diffusion = ConfigDict()
    c.model.diffusion.schedule = ConfigDict({"name": "cosine"})
    c.model.diffusion.prediction = "v"
    c.model.diffusion.weighting = "uniform"
    c.init = ConfigDict()  # component -> a release folder, or the name of an earlier stage in the same workdir

    c.data = ConfigDict()  # as dalle3_jax.data.settings has them, which a test compares
    c.data.source = "scenes"
    c.data.world = "first"  # first, whole or scattered
    c.data.part = ConfigDict()  # of the world: concepts, styles, kinds, words, ... of dalle3_jax.data.scenes.world_of
    c.data.size = (128, 128)  # height, width
    c.data.buckets = ()  # sizes (height, width) that batches have, one a batch; (): data.size alone
    c.data.frames = ()  # sizes (height, width) of which each scene has the one that suits it; (): data.size
    c.data.crop = 0  # side of random crops in pixels; 0: whole pictures
    c.data.degradation = ConfigDict()  # upscaler stages: factor and more of dalle3_jax.data.degradation; empty: none
    c.data.captions = ConfigDict({"descriptive": 0.95, "short": 0.0, "alt": 0.05})
    c.data.fields = ConfigDict()  # of JSON beside pictures -> versions of captions; empty: the usual names
    c.data.sidecars = ()  # folders of further versions of captions that `dalle3-jax recaption` wrote
    c.data.background = (255, 255, 255)  # red, green, blue: on which transparent pictures are laid
    c.data.dropout = 0.1  # captions replaced by ""
    c.data.tokenizer = "scenes"  # of the first world; "whole" of the whole; a file, a folder; "": init.text_encoder's
    c.data.text_length = 64
    c.data.glyph_length = 0  # bytes of quoted text that a glyph_encoder reads; 0: none
    c.data.records = 0  # only the first so many of the source; 0: all
    c.data.latents = 0  # records whose latents are encoded ahead; 0: encode as they come
    c.data.cache = ""  # a folder that `dalle3-jax encode` wrote; empty: none
    c.data.max_bad = 0.01  # share of records that cannot be used above which a run stops
    c.data.seed = 0
    c.data.threads = 2
    c.data.prefetch = 16

    c.train = ConfigDict()
    c.train.stage = ""
    c.train.name = ""  # folder of the run in the workdir; empty: the stage's
    c.train.trainable = ()
    c.train.steps = 0
    c.train.batch_size = 16  # over all devices and processes
    c.train.accumulate = 1  # parts that a batch is computed in
    c.train.seed = 0
    c.train.dtype = "float32"  # of computation: float32 or bfloat16
    c.train.learning_rate = 1e-3
    c.train.rates = ConfigDict()  # component -> factor of its learning rate
    c.train.warmup = 200  # updates
    c.train.constant = 0.0  # fraction of steps before the cosine begins
    c.train.b1 = 0.9
    c.train.b2 = 0.99
    c.train.weight_decay = 0.01
    c.train.clip = 1.0
    c.train.ema = 0.999
    c.train.max_skipped = 20  # steps in a row with a gradient that is not finite
    c.train.objective = ConfigDict()  # keywords of the stage's objective: OBJECTIVES
    c.train.log_every = 50
    c.train.save_every = 1000
    c.train.save_minutes = 10.0
    c.train.hang_minutes = 30.0  # a step that takes longer ends the run; 0: none does
    c.train.compile_first = False  # every bucket before the first step, not each when it comes
    c.train.keep = 2
    c.train.wandb = ""  # a project there; empty: off
    c.train.release_dtype = "float16"  # or bfloat16, float32; int8: matrices in 8 bits, all else in float16

    # -1: the devices that remain. Slices are joined over the data centre's network, and `data` spans them.
    c.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1, "slices": 1})

    c.sample = ConfigDict()
    c.sample.every = 1000  # steps between grids; 0: none
    c.sample.prompts = ()
    c.sample.count = 8  # pictures in a grid of reconstructions
    c.sample.steps = 20
    c.sample.sampler = "dpmsolver++"
    c.sample.guidance_scale = 2.5
    c.sample.decoder_steps = 2  # of a distilled decoder; a diffusion decoder takes `steps`
    c.sample.temperature = 1.0  # of a distilled decoder's noise
    c.sample.clamp = False  # keep a decoder's every estimate within [-1, 1]
    c.sample.suite = ""  # scenes, visitors, a world or a .jsonl: prompts that the base stage scores; empty: none
    c.sample.suite_count = 48  # so many of them
    c.lock()
    c.model.unlock()
    c.init.unlock()
    c.data.part.unlock()
    c.data.degradation.unlock()
    c.data.fields.unlock()
    c.train.rates.unlock()
    set_stage(c, stage)
    return c


PLAIN_DECODER = {"blocks": 1, "time_entries": 0, "embedding_ratio": 2, "norm": "rms"}
"""Fields of decoders and refiners that take no statistics over space, which tiles would change."""


def set_pixel_upscaler(c: ConfigDict, *levels: ConfigDict) -> None:
    """An upscaler to twice the side, in pixels folded 4 x 4, without statistics or attention over space."""
    c.train.trainable = ("upscaler",)
    c.model.upscaler = {
        "in_channels": 6,
        "out_channels": 3,
        "patch": 4,
        "norm": "rms",
        "level_entries": 0,
        "embedding_ratio": 2,
        "middle_self_attend": False,
        "levels": levels,
    }
    c.model.diffusion.prediction = "x0_skip"
    c.data.degradation = {"factor": 2}
    c.sample.sampler = "ddim"
    c.sample.guidance_scale = 1.0
    c.sample.clamp = True
