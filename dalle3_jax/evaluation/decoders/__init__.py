"""What decoders keep of pictures, how they spell, and what they cost."""
