"""Records of explanations: written, signed, replayed."""
