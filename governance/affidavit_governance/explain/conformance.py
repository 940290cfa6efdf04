"""How the conformance kit tries the explainers that need to see a model's inside; the others explain the kit's own model."""

from __future__ import annotations

from affidavit.testing import ExplainerCase

_NETWORK = {"epochs": 3, "hidden": [6]}

CASES = [
    ExplainerCase(name="linear", model="tabular.logistic"),
    ExplainerCase(name="tree", model="tabular.tree"),
    ExplainerCase(name="tree", label="boosting", model="tabular.boosting", params={"trees": 4}),
    ExplainerCase(name="gradient", model="tabular.mlp", params=_NETWORK),
    ExplainerCase(name="deep", model="tabular.mlp", params=_NETWORK),
]
