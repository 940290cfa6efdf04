"""How good explanations are, measured."""
