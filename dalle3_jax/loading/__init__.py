"""From a name to a release: releases and runs, folders of diffusers and transformers, the hub."""
