"""Prompts to pictures: `python sample.py --prompt "a panda on a beach"`; --help says more."""

import sys

from dalle3_jax.__main__ import run

if __name__ == "__main__":
    sys.exit(run("sample", sys.argv[1:]))
