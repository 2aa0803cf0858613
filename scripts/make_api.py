"""Writes docs/api.md: the names that other code imports, with signatures, shapes and one line each.

    python -m scripts.make_api

Everything is read out of the sources: signatures as they are written, the first line of each docstring, `__all__` as
the word on what is public. Nothing is imported, so this takes a second; tests/test_api.py holds the page current.
"""

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path

from dalle3_jax.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/api.md"
WIDTH = 110
ALIASES = {"Images", "Rows", "Keys", "Time"}
"""Names that files give to shapes: the page shows the shapes."""

INTRODUCTION = """# The public names

What other code imports, room by room; each part can be used alone. `import dalle3_jax` gives `Pipeline`, `Request`,
`convert` and `__version__`, each imported when it is first asked for; everything else comes from the module that its
heading names. What is not here may change without notice.

{legend}
    H W  those of pixels, where h w are those of latents

Times t lie in [0, 1], 1 is noise; pixels in [-1, 1]. Parameters are trees of arrays, `key` is a typed JAX key.
This page is written by `python -m scripts.make_api`: change the sources, not the page.
"""

SHOWN_AS = {"convert.networks": "convert", "pipeline.pipeline": "pipeline"}
"""Modules whose names their package hands out."""

# Heading -> module -> names; no names: all of its __all__.
SECTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Prompts to images": {
        "pipeline.pipeline": ("Pipeline",),
        "pipeline.image_codec": ("ImageCodec",),
        "pipeline.request": ("Request", "Sampling", "Guidance", "Decoding", "Upscaling", "request_from_metadata"),
        "pipeline.edit_settings": ("Edit",),
        "pipeline.input_images": ("InputImage", "open_input_image", "open_input_mask"),
        "pipeline.png": ("GeneratedImage", "read_metadata"),
        "pipeline.upscaler": ("Upscaler",),
    },
    "Serving": {
        "serving.app": ("build_app",),
        "serving.engine": ("Engine",),
        "serving.service": ("Limits", "Service"),
    },
    "Weights from and to elsewhere": {
        "convert.networks": ("load", "open", "save"),
        "loading.open": ("open_release",),
    },
    "Sampling": {
        "diffusion.samplers": ("SAMPLERS", "sample"),
        "diffusion.spacing": ("Spacing", "sampling_times"),
        "diffusion.guidance": ("classifier_free", "rescale_guided"),
    },
    "Schedules and predictions": {
        "diffusion.schedules": ("Cosine", "ScaledLinear", "build_schedule"),
        "diffusion.prediction": ("Prediction", "denoiser", "prediction_target", "x0_from_output"),
        "diffusion.weighting": ("loss_weight",),
    },
    "Networks": {
        "models.build": ("NETWORKS", "build_module", "module_fields"),
        "models.t5": ("T5Encoder",),
        "models.clip": ("CLIPTextEncoder", "CLIP"),
        "models.xfnet": ("XFNet",),
        "models.condition": ("Condition", "encode_text"),
        "models.unet": ("Level", "UNet"),
        "models.unet_call": ("apply_unet",),
        "models.vae": ("VAE",),
        "models.upscaler": (),
        "models.decoder": ("DecoderUNet",),
        "models.captioner": ("Captioner",),
        "models.scene_reader": ("SceneReader",),
        "models.latent_head": ("LatentHead",),
        "models.layout_head": ("LayoutHead",),
        "models.size_head": ("SizeHead",),
    },
    "Text": {
        "text.tokenizers": ("Tokenizer",),
        "text.glyphs": ("encode_glyphs",),
    },
    "Training": {
        "training.tasks": ("Task", "text_to_image", "latent_decoder", "upscale", "BaseModel"),
        "training.objectives.diffusion": ("diffusion_loss",),
        "training.objectives.consistency": ("consistency_loss",),
        "training.objectives.vae": ("vae_loss",),
        "training.objectives.text": ("text_loss",),
        "training.objectives.layout": ("layout_loss",),
        "training.objectives.captioner": ("captioner_loss",),
        "training.optimizer": ("adamw", "learning_rate"),
        "training.state": ("TrainState", "init_params", "create_state", "state_shardings"),
        "training.step": ("make_step", "compile_step"),
        "training.sharding": ("make_mesh", "param_shardings", "put_batch"),
    },
    "Data": {
        "data.batches": ("make_batches", "open_source"),
    },
    "Checkpoints": {
        "checkpoints.releases": ("Release", "load_release", "save_release"),
        "checkpoints.training": ("Checkpointer",),
    },
}


def render_page() -> str:
    """The whole page, from the sources as they are now; ValueError for a name that is not public."""
    legend = (ast.get_docstring(read_module("typing")) or "").split("\n\n")[1]
    page = [INTRODUCTION.format(legend=textwrap.indent(legend, "    "))]
    for heading, modules in SECTIONS.items():
        page.append(f"## {heading}\n")
        for module, names in modules.items():
            page += [f"### `dalle3_jax.{SHOWN_AS.get(module, module)}`\n", *render_module(module, names)]
    return "\n".join(page)


def read_module(module: str) -> ast.Module:
    """The syntax tree of a module of the package, with shapes in the place of the names that stand for them."""
    tree = ast.parse((ROOT / "dalle3_jax" / f"{module.replace('.', '/')}.py").read_text())
    imported = [n for n in tree.body if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("dalle3_jax.")]
    near = [read_module((n.module or "").partition(".")[2]) for n in imported if {a.name for a in n.names} & ALIASES]
    nodes = [node for part in (*near, tree) for node in part.body if isinstance(node, ast.Assign)]
    shapes = {ast.unparse(node.targets[0]): node.value for node in nodes}
    return Substitute({name: shapes[name] for name in ALIASES & set(shapes)}).visit(tree)


class Substitute(ast.NodeTransformer):
    """Expressions in the place of names."""

    def __init__(self, values: dict[str, ast.expr]):
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """What stands for a name that is read, or the name."""
        return self.values.get(node.id, node) if isinstance(node.ctx, ast.Load) else node


def render_module(module: str, names: tuple[str, ...]) -> Iterator[str]:
    """Yield a line and a block of code for each of the module's names."""
    tree = read_module(module)
    public = public_names(tree)
    if unknown := sorted(set(names) - set(public)):
        raise ValueError(f"dalle3_jax.{module} has no public {', '.join(unknown)}: its __all__ holds {public}")
    for name in names or public:
        line, code = render_name(tree, name)
        yield f"#### {name}\n\n{line}\n\n```python\n{code}\n```\n"


def public_names(tree: ast.Module) -> list[str]:
    """The names in a module's __all__."""
    tables = (n.value for n in tree.body if isinstance(n, ast.Assign) and source(n.targets[0]) == "__all__")
    return ast.literal_eval(next(tables, ast.List([])))


def render_name(tree: ast.Module, name: str) -> tuple[str, str]:
    """(first line of the docstring, signature) of a class, a function, or a table by names."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return first_line(node), signature(name, node)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return first_line(node), render_class(node)
        if isinstance(node, ast.AnnAssign) and source(node.target) == name and isinstance(node.value, ast.Dict):
            return "By name: " + ", ".join(f"`{source(key)}`" for key in node.value.keys) + ".", source(node).partition(
                " ="
            )[0]
    raise ValueError(f"{name} is no class, function or table with a type")


def render_class(node: ast.ClassDef) -> str:
    """How an object is made, and every public method and property with its line."""
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    fields = [source(item) for item in node.body if isinstance(item, ast.AnnAssign) and "ClassVar" not in source(item)]
    made = next((arguments(item.args) for item in functions if item.name == "__init__"), fields)
    blocks = [fold(f"class {node.name}", made)]
    for item in functions:
        marks = [source(decorator) for decorator in item.decorator_list]
        if item.name == "__call__" or not item.name.startswith(("_", "setup")):
            name = node.name + "." + item.name if "classmethod" in marks else "." + item.name
            code = f"{name}: {source(item.returns)}" if "property" in marks else signature(name, item)
            blocks.append(f"# {first_line(item)}\n{code}")
    return "\n\n".join(blocks)


def signature(name: str, node: ast.FunctionDef) -> str:
    """A function's name, arguments and result."""
    return fold(name, arguments(node.args), f" -> {source(node.returns)}")


def arguments(node: ast.arguments) -> list[str]:
    """Arguments with their types and defaults, without self and cls."""
    plain = [*node.posonlyargs, *node.args]
    defaults = [*[None] * (len(plain) - len(node.defaults)), *node.defaults]
    pairs = [*zip(plain, defaults, strict=True), *zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    found = [source(arg) + (f" = {source(default)}" if default else "") for arg, default in pairs]
    if node.vararg or node.kwonlyargs:
        found.insert(len(plain), f"*{source(node.vararg)}" if node.vararg else "*")
    found += [f"**{source(node.kwarg)}"] if node.kwarg else []
    return [argument for argument in found if argument not in ("self", "cls")]


def fold(name: str, items: list[str], end: str = "") -> str:
    """name(items)end in one line, or an item a line where that is too long."""
    line = f"{name}({', '.join(items)}){end}"
    return line if len(line) <= WIDTH else f"{name}(\n{''.join(f'    {item},{chr(10)}' for item in items)}){end}"


def source(node: ast.AST | None) -> str:
    """A node as it is written, in double quotes."""
    return ast.unparse(node).replace("'", '"') if node else "None"


def first_line(node: ast.FunctionDef | ast.ClassDef) -> str:
    """The first line of a docstring, and what follows up to the end of a sentence."""
    lines = (ast.get_docstring(node) or "").split("\n\n")[0].splitlines()
    ends = (number for number, line in enumerate(lines, 1) if line.endswith((".", ":")))
    return " ".join(lines[: next(ends, None)])


if __name__ == "__main__":
    write_whole(PAGE, render_page().encode())
