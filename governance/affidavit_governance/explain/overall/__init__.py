"""What a model does as a whole."""
