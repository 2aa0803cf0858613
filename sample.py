"""Prompts to pictures: `python sample.py --prompt "a panda on a beach"`; --help says more."""

import sys

from dalle3_jax.__main__ import run_command

if __name__ == "__main__":
    sys.exit(run_command("sample", sys.argv[1:]))
