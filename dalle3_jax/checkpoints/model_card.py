"""MODEL_CARD.md of a release, made from its model.json so that the two cannot disagree."""

import json
from collections.abc import Mapping
from typing import Any

from dalle3_jax.checkpoints.origins import foreign_components

__all__ = ["model_card"]

SPRITES = (
    "The scenes are composed of Fluent Emoji (MIT) and Noto Emoji (Apache-2.0) and of words in fonts under the OFL and "
    "Apache licences (NOTICE of dalle3_jax)"
)


def model_card(record: Mapping[str, Any]) -> str:
    """The card's Markdown for the content of a model.json."""
    sections = [
        "# A dalle3_jax release",
        _purpose_section(record),
        "## What it knows\n\n" + _knowledge(record),
        "## Its limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(record)),
        "## Its licence\n\n" + _licence(record["training"]),
        "## Components\n\n" + _component_table(record["components"]),
        *_settings_section("Latents", record["latent"]),
        *_settings_section("Decoders", record.get("decoders")),
        *_settings_section("Upscaler", record.get("upscaler")),
        *_settings_section("Diffusion", record["diffusion"]),
        *_settings_section("Sampling defaults", record["sampling"]),
        *_settings_section("Training", record["training"]),
    ]
    return "\n\n".join(sections) + "\n"


def _purpose_section(record: Mapping[str, Any]) -> str:
    if not _makes_images(record):
        return "Parts of a text-to-image model; `init` of a training config takes this folder."
    return (
        "Turns a prompt into a picture.\n\n"
        '```python\nfrom dalle3_jax.pipeline import Pipeline\n\npipeline = Pipeline.load("this folder")\n'
        'pipeline("a panda on a beach")[0].save("panda.png")\n```\n\n'
        "Pictures carry how they were made: prompt, seed, settings, the hash of this release, and the source type of "
        "generated media."
    )


def _makes_images(record: Mapping[str, Any]) -> bool:
    return "unet" in record["components"]


def _data(training: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of a run's config that says what it was trained on."""
    data = training.get("config", {}).get("data", {})
    return data if isinstance(data, Mapping) else {}


def _knowledge(record: Mapping[str, Any]) -> str:
    """A sentence on the training data, as far as the record names it."""
    training, data = record["training"], _data(record["training"])
    if imported := training.get("imported"):
        return f"What its weights know, which were imported from {imported}: see the card of that model."
    amount = f" on {training['images']:,} images" if isinstance(training.get("images"), int) else ""
    stage = f"Its stage `{training['stage']}` was trained{amount}" if training.get("stage") else "It was trained"
    if data.get("source") == "scenes":
        text = (
            f"{stage} of `scenes`, world `{data.get('world', 'whole')}`: drawn pictures of everyday things on plain "
            "backgrounds, in counts, colours and places that their captions name, some with words. It has seen nothing "
            "else: no photographs, no people but as emoji."
        )
    elif data.get("source"):
        text = f"{stage} of `{data['source']}`."
    else:
        text = f"{stage}; on what, its record does not say."
    shares = {name: share for name, share in data.get("captions", {}).items() if share}
    if shares and record["text"]:
        text += " Captions: " + ", ".join(f"{share:.0%} {name}" for name, share in shares.items()) + "."
    begun = sorted({str(where) for where in training.get("config", {}).get("init", {}).values()})
    return text + (f" It began with {', '.join(f'`{where}`' for where in begun)}." if begun else "")


def _limits(record: Mapping[str, Any]) -> list[str]:
    if not _makes_images(record):
        return ["Alone it makes no pictures."]
    sizes = ", ".join(f"{width}x{height}" for height, width in record["sizes"])
    limits = [f"Sizes (width x height) it was trained for: {sizes or 'not said'}. Others work, less well."]
    limits.append(f"Prompts are cut after {record['text'].get('length', '?')} tokens.")
    if record["sampling"].get("upsample", "none") != "none":
        limits.append(
            "Short prompts are first rewritten as the captions that it learnt from; --upsample none leaves them."
        )
    if _data(record["training"]).get("source") == "scenes":
        limits.append(
            "Words that its scenes do not have are named in a note, and drawn as something else or not at all."
        )
    return [*limits, "Counts, relations and drawn words can be wrong. There is no filter of prompts or pictures."]


def _licence(training: Mapping[str, Any]) -> str:
    if imported := training.get("imported"):
        return f"That of {imported}, whose terms hold for what is made of its weights."
    if _data(training).get("source") == "scenes" and not foreign_components(training):
        return f"{SPRITES}; whoever trained the weights says theirs, and those shipped with dalle3_jax are Apache-2.0."
    return (
        "Whoever trained these weights says it. Terms of the images that they were trained on, and of the weights that "
        "they began with, hold beside it."
    )


def _component_table(components: Mapping[str, Any]) -> str:
    rows = ["| component | class | parameters | stored as |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {part['class']} | {part['parameters']:,} | {part['dtype']}, {len(part['files'])} file(s) |"
        for name, part in components.items()
    ]
    return "\n".join(rows)


def _settings_section(title: str, values: Mapping[str, Any] | None) -> list[str]:
    """A section with one line a setting, or nothing when there are none."""
    if not values:
        return []
    lines = [f"- {key.replace('_', ' ')}: {_format_value(value)}" for key, value in values.items() if key != "config"]
    section = f"## {title}\n\n" + "\n".join(lines)
    if "config" in values:
        section += f"\n\nIts config:\n\n```json\n{json.dumps(values['config'], indent=1)}\n```"
    return [section]


def _format_value(value: Any) -> str:
    return value if isinstance(value, str) else f"`{json.dumps(value)}`"
