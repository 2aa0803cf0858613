"""One file per network: fields -> init and apply."""
