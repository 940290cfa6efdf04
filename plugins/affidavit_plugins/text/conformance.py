"""How the conformance kit tries the text model types: an encoder that is small and trains quickly."""

from __future__ import annotations

from affidavit.testing import ModelCase

_ENCODER = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

CASES = [ModelCase(name="text.classifier", params={"epochs": 8, "encoder": _ENCODER})]
