"""The commands by name; each is a file with `main(argv) -> int`, imported only when it is asked for."""

COMMANDS = {
    "train": ("dalle3_jax.commands.train", "train one stage of a config, or go on where it stopped"),
    "sample": ("dalle3_jax.commands.sample", "turn prompts into pictures"),
    "serve": ("dalle3_jax.commands.serve", "answer OpenAI's Images API, and a part of stable-diffusion-webui's"),
    "upscale": ("dalle3_jax.commands.upscale", "enlarge images 2 or 4 times"),
    "convert": ("dalle3_jax.commands.convert", "write public weights as a release"),
    "export": ("dalle3_jax.commands.export", "write a release from a training workdir"),
    "encode": ("dalle3_jax.commands.encode", "encode a dataset once, to latents that training reads"),
    "recaption": ("dalle3_jax.commands.recaption", "write new captions for a dataset, beside it"),
    "captions": ("dalle3_jax.commands.captions", "report how captions are written, or measure how true they are"),
    "plan": ("dalle3_jax.commands.plan", "say what a training step costs on TPUs that are not here"),
    "evaluate": ("dalle3_jax.commands.evaluate", "score a model on held-out scenes"),
    "ablate": ("dalle3_jax.commands.ablate", "train and measure the variants of an ablation, to a table and a plot"),
    "scenes": ("dalle3_jax.commands.scenes", "draw a contact sheet of the embedded dataset, or write it as TFDS"),
}

RESUMABLE = ("sample", "encode", "recaption", "ablate")
"""Commands that go on from what is saved when they are given again."""

MEMORY_REMEDIES = {
    "train": "set --config.train.accumulate=2 or more, a smaller --config.train.batch_size, or --config.mesh.fsdp=-1",
    "sample": "give a smaller --batch-size or --size, --tile 512, --dtype bf16 or --drop-text-encoder",
    "serve": "give a smaller --batch-size, or --dtype bf16",
    "encode": "give a smaller --batch-size",
    "recaption": "give a smaller --batch-size",
    "evaluate": "give a smaller --batch-size",
}
"""What helps a command whose device has not memory enough; a smaller model, or a larger device, help them all."""
