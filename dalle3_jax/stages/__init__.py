"""The stages of training: what each trains, on which data, by which objective, and the run around it."""
