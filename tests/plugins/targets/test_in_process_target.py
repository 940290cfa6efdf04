"""The target `in-process`."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Predictions, Signature, Task
from affidavit.interfaces.schema import Field, FieldType, Schema
from affidavit_plugins.targets.in_process import InProcess

INPUTS = Schema((Field("x", FieldType.NUMERIC),))


class Doubler:
    name, version, model_type, signature = "double", 1, "test.double", Signature(INPUTS, Task.REGRESSION, "y")

    def predict(self, data: Dataset) -> Predictions:
        return Predictions(data.to_numpy("x") * 2)


def test_it_hands_rows_to_the_predictor_until_it_is_stopped() -> None:
    rows = Dataset.from_rows({"x": [1.0, 4.0]}, INPUTS)
    with InProcess().deploy(Doubler()) as endpoint:
        assert endpoint.healthy()
        assert np.array_equal(endpoint.predict(rows).values, [2.0, 8.0])
    assert not endpoint.healthy()
    endpoint.stop()
    with pytest.raises(UsageError, match="was stopped"):
        endpoint.predict(rows)


def test_it_takes_no_options() -> None:
    with pytest.raises(UsageError, match="no option 'port'"):
        InProcess().deploy(Doubler(), port=1)


@pytest.mark.parametrize(
    ("module", "kind", "names"),
    [
        ("affidavit_plugins.targets.plugin", "target", {"in-process", "http"}),
        ("affidavit_plugins.tabular.plugin", "model", {f"tabular.{name}" for name in ("logistic", "linear", "tree", "forest", "boosting")}),
    ],
)
def test_every_registered_path_holds_what_it_names(module: str, kind: str, names: set[str]) -> None:
    added: dict[str, str] = {}

    class Registry:
        def add(self, kind: str, name: str, path: str, **rest: Any) -> None:
            added[name] = path

    importlib.import_module(module).affidavit_register(Registry())
    assert names <= set(added)
    for name in names:
        home, _, attribute = added[name].partition(":")
        assert getattr(importlib.import_module(home), attribute).type == name
