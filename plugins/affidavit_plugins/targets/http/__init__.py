"""The target `http`: a governed model behind the Open Inference Protocol v2 (REST)."""
