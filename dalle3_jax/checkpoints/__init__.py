"""Checkpoints of training and releases of trained systems."""
