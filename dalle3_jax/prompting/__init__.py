"""What is made of a user's prompt before it is sampled: a description in the captions' form, and a size."""
