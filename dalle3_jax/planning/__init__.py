"""The cost of programs on chips that are not at hand: numbers and text only, no network and no config."""
