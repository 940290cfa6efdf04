"""How the conformance kit tries the table model types: parameters that keep training short."""

from __future__ import annotations

from affidavit.testing import ModelCase

CASES = [
    ModelCase(name="tabular.mlp", params={"epochs": 10, "hidden": [8]}),
    ModelCase(name="tabular.forest", params={"trees": 5}),
    ModelCase(name="tabular.boosting", params={"trees": 8}),
]
