"""Time ratios against PyTorch, both sides in one process: `python -m benchmarks [name ...] [--quick]`."""
