"""The same numbers to the last bit: a row alone, in a batch, in another order, beside other threads, and made again from the record."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

import affidavit as af
from affidavit.errors import UsageError
from affidavit_governance.explain.methods import tree

ARRAYS = ("values", "base", "predicted", "errors", "interactions")


def columns(rows=120):
    generator = np.random.default_rng(3)
    a, b, d = (generator.normal(size=rows) for _ in range(3))
    colour = np.array(["red", "blue", "green", None], dtype=object)[generator.integers(0, 4, rows)]
    score = a * 1.5 - b * d + (colour == "red") * 2
    gaps = pa.array([None if row % 11 == 0 else float(value) for row, value in enumerate(generator.normal(size=rows))])
    return {"a": a, "b": b, "d": d, "e": gaps, "colour": pa.array(colour, type=pa.string()), "y": np.where(score > 0.3, "yes", "no")}


@pytest.fixture
def workspace(tmp_path):
    with af.Workspace(tmp_path / "ws", policy={"explain": {"min_local_r2": 0.0}}, actor="tester") as opened:
        yield opened


def trained(workspace, model):
    data = workspace.load(pa.table(columns()), target="y", name="toy")
    return workspace.train(model, data), data.take([3, 0, 11, 7, 3]), data.take(np.arange(20, 40))


def differences(one, other):
    """The arrays of two records that are not the same to the last bit."""
    pairs = [(name, getattr(one, name), getattr(other, name)) for name in ARRAYS]
    return [name for name, a, b in pairs if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b, equal_nan=True))]


def part(record, places):
    """Some rows of a record."""
    arrays = {name: value[places] for name in ARRAYS if (value := getattr(record, name)) is not None}
    return replace(record, **arrays, inputs=[record.inputs[place] for place in places], signed=None)


CASES = [
    ("tabular.logistic", "linear", {}),
    ("tabular.logistic", "linear", {"game": "conditional-gaussian"}),
    ("tabular.logistic", "leverage", {"width": 0.05}),
    ("tabular.logistic", "permutation", {"budget": 6000, "interactions": True, "groups": {"g": ["a", "b"]}}),
    ("tabular.logistic", "partition", {"budget": 4000, "hierarchy": {"h": ["a", "b"], "k": ["d", "e"]}}),
    ("tabular.logistic", "lime", {"budget": 500}),
    ("tabular.forest", "tree", {"game": "path-dependent", "interactions": True}),
    ("tabular.boosting", "tree", {"groups": {"g": ["a", "colour"]}}),
]


@pytest.mark.parametrize(("model", "method", "options"), CASES)
def test_a_row_has_the_same_numbers_alone_in_a_batch_reversed_in_threads_and_replayed(workspace, model, method, options):
    fitted, rows, background = trained(workspace, model)
    check(workspace, fitted, rows, background, method, options)


@pytest.mark.parametrize("method", ["exact", "leverage", "gradient", "deep", "kernel", "lime"])
def test_so_it_has_with_a_network_whose_products_of_matrices_depend_on_the_batch(workspace, method):
    pytest.importorskip("torch")
    fitted, rows, background = trained(workspace, "tabular.mlp")
    check(workspace, fitted, rows, background, method, {} if method in ("exact", "deep") else {"budget": 600})


def check(workspace, model, rows, background, method, options):
    def explain(places):
        return workspace.explain(model, rows.take(places), background=background, method=method, **options)

    everything = list(range(len(rows)))
    batch = explain(everything)
    assert differences(part(explain(everything[::-1]), everything[::-1]), batch) == []
    with ThreadPoolExecutor(4) as pool:
        for row, alone in zip(everything, pool.map(lambda row: explain([row]), everything), strict=True):
            assert differences(alone, part(batch, [row])) == []
    assert workspace.replay(batch, rows, model=model, background=background).bit_equal


@pytest.mark.parametrize("options", [{}, {"engine": "native", "game": "interventional", "interactions": False, "seed": 4}])
def test_the_stand_in_for_trees_that_cannot_be_read_replays_with_its_own_options(workspace, monkeypatch, options):
    def unreadable(*_):
        raise UsageError("These trees cannot be read.")

    monkeypatch.setattr(tree, "read_ensemble", unreadable)
    model, rows, background = trained(workspace, "tabular.forest")
    found = workspace.explain(model, rows, background=background, method="tree", **options)
    assert found.method == "exact" and "'exact' was used instead" in found.details["fallback"]
    assert found.details["options"].get("seed") == options.get("seed") and "engine" not in found.details["options"]
    assert workspace.replay(found, rows, model=model, background=background).bit_equal
