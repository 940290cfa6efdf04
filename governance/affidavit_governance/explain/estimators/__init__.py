"""Values of cooperative games: arrays in, arrays out."""
