"""Losses of the stages. A loss is built from apply functions and never names a network's class."""
