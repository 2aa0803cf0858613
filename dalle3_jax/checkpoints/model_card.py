"""MODEL_CARD.md of a release, made from its model.json so that the two cannot disagree."""

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["model_card"]


def model_card(record: Mapping[str, Any]) -> str:
    """The card's Markdown for the content of a model.json."""
    sections = [
        "# A dalle3_jax release",
        _purpose_section(record),
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
    if "unet" not in record["components"]:
        return "Parts of a text-to-image model; `init` of a training config takes this folder."
    sizes = ", ".join(f"{width}x{height}" for height, width in record["sizes"]) or "any multiple of the latent's factor"
    return (
        "Turns a prompt into a picture. Sizes (width x height) it was trained for: "
        f"{sizes}. Prompts are cut after {record['text'].get('length', '?')} tokens.\n\n"
        '```python\nfrom dalle3_jax.pipeline import Pipeline\n\npipeline = Pipeline.load("this folder")\n'
        'pipeline("a panda on a beach")[0].save("panda.png")\n```\n\n'
        "Pictures carry how they were made: prompt, seed, settings, the hash of this release, and the source type of "
        "generated media."
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
