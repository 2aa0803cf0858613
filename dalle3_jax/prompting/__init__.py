"""From a user's prompt to what is sampled: a description in the captions' form, and a size."""
