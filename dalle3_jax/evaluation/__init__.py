"""How well pictures follow their prompts, measured on scenes whose every part is known."""
