"""`dalle3-jax evaluate compare A B`: two checkpoints on the same prompts and the same noise."""

from collections.abc import Sequence

from dalle3_jax.commands.cli import (
    CommandParser,
    bad_input,
    failures,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.commands.evaluate.cli import FAILURES, LEFT, add_scoring_flags, prepare_scoring
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.progress_bar import progress_bar


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax evaluate compare",
        "Score two checkpoints on the same prompts and noise; intervals are of the paired differences.",
    )
    parser.add_argument("first", metavar="A", help="release, workdir, or demo")
    parser.add_argument("second", metavar="B", help="the same; a positive difference is in its favour")
    return add_scoring_flags(parser)


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        pipelines = [open_pipeline(arguments.first), open_pipeline(arguments.second)]
        evaluate, folder, _ = prepare_scoring(arguments, pipelines)
    from dalle3_jax.evaluation.comparison import Comparison, short_names, write_comparison

    reports = []
    with failures(*FAILURES, remark=f"what was measured before is in {folder}"):
        for side, pipeline in zip(("first", "second"), pipelines, strict=True):
            with progress_bar() as (_, progress):
                reports.append(evaluate(pipeline, progress=progress))
            write_whole(folder / f"{side}.md", reports[-1].markdown().encode())
        compared = Comparison(short_names(arguments.first, arguments.second), *reports)
    print(compared.markdown())
    with failures(OSError, remark=LEFT):
        write_comparison(compared, folder)
    print(f"wrote {folder}/comparison.md, comparison.json, comparison.png (where they differ), first.md and second.md")
    return 0
