"""Training: objectives, optimiser, sharding, the state and the one step that all stages share."""
