"""Data: records, where they come from, and the pipeline that makes batches of them. numpy and Pillow, never jax."""
