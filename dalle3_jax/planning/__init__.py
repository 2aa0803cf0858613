"""What a program will cost on chips that are not here: numbers and text only, no network and no config."""
