"""Text: tokenizers, and what a prompt says."""
