"""Ablations: what is compared, the runs that compare it, and the table and plot of them."""
