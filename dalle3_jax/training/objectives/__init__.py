"""What each stage minimises. A loss is built from apply functions and never names a network's class."""
