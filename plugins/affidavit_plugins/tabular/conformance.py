"""How the conformance kit tries the table model types: parameters that keep training short."""

from __future__ import annotations

from affidavit.testing import ModelCase
from affidavit.testing.samples import regression_table

CASES = [
    ModelCase(name="tabular.mlp", params={"epochs": 10, "hidden": [8]}),
    ModelCase(name="tabular.forest", params={"trees": 5}),
    ModelCase(name="tabular.boosting", params={"trees": 8}),
    ModelCase(name="tabular.mlp", label="regression", params={"epochs": 10, "hidden": [8]}, data=regression_table()),
    ModelCase(name="tabular.forest", label="regression", params={"trees": 5}, data=regression_table()),
]
