"""Private training of torch modules: per-example gradients, clipping, noise, and the engine that a model's loop talks to."""
