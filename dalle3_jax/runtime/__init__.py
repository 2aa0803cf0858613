"""The processes of a run: which they are, how they start, agree and stop. Knows no network."""
