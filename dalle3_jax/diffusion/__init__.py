"""Diffusion in formulas: schedules, predictions, loss weights, guidance and samplers, all functions of arrays."""
