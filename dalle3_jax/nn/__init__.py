"""Blocks that own parameters; they know no model."""
