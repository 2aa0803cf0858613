"""`dalle3-jax ablate`: trains and measures what an ablation compares, and leaves its table and plot."""

from collections.abc import Sequence
from pathlib import Path

from dalle3_jax.commands.cli import CommandParser, bad_input, failures, print_command_errors

EXAMPLES = """examples:
  dalle3-jax ablate configs/ablations/prediction.py --workdir runs/prediction
  dalle3-jax ablate configs/ablations/sampling.py --workdir runs/sampling --out docs/images

Run the same command again to go on: what is measured is not trained again. Several processes of it, on this machine or
on others that see W, share out the runs, once the first has made what all runs share. Exit codes: 0 done; 2 bad
input; 1 failed; 75 stopped by SIGTERM or SIGINT with everything saved. W holds the stages that all runs share,
runs/VARIANT/SEED/, a JSON for each measured run in results/, and NAME.md and NAME.png."""


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before anything is trained."""
    parser = CommandParser(
        "dalle3-jax ablate", "Train and measure the variants of an ablation; write a table and a plot.", EXAMPLES
    )
    parser.add_argument("config", help="the ablation: a file, or a name like prediction")
    parser.add_argument("--workdir", required=True, metavar="W", help="folder of the runs")
    parser.add_argument("--out", metavar="DIR", help="folder for another copy of the table and the plot")
    arguments = parser.parse_args(argv)
    with failures(FloatingPointError, OSError, remark="the same command goes on from what is saved"), bad_input():
        from dalle3_jax.ablations.run import run_ablation  # which brings jax, and help comes at once

        return run_ablation(arguments.config, Path(arguments.workdir).absolute(), arguments.out)
