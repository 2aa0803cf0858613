"""Measures of how well pictures follow their prompts, on scenes whose every part is known."""
