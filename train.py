"""Train one stage: python train.py --config configs/demo.py:vae --workdir W."""

import sys

from dalle3_jax.commands.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
