"""Budgets mean the same for every method: model rows in all, one number for each row, and a replay with what was spent."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from tests.governance.explain.explain_models import Formula, interacting, make_table

import affidavit as af
from affidavit import Dataset
from affidavit.errors import UsageError
from affidavit_governance.explain.budget import Budget
from affidavit_governance.explain.methods.lime import MOST_NEIGHBOURS, Lime
from affidavit_governance.explain.methods.partition import Partition
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation
from affidavit_governance.explain.overall.dependence import PartialDependence
from affidavit_governance.explain.overall.importance import PermutationImportance

SAMPLED = [Leverage, Permutation, Partition, Lime]


class Counting(Formula):
    """Counts the rows that it is asked for."""

    seen = 0

    def predict(self, data):
        self.seen += len(data)
        return super().predict(data)


class Estimate:
    def __init__(self, rows):
        self.errors = np.array([1 / rows])


@pytest.fixture
def wide():
    """Nine fields, too many to enumerate for a few hundred rows."""
    table = make_table(60, numbers=7)
    return Counting(
        lambda data: interacting(data) * 0.5 + 0.2 * np.tanh(data.to_numpy("x2") * data.to_numpy("x3") * data.to_numpy("x4")) + 0.2, table
    )


@pytest.mark.parametrize(("rows", "smallest"), [(1000, 10), (1000, 900), (1000, 1000), (1000, 334), (10, 50), (7, 1), (1, 1), (3, 1)])
def test_attempts_for_a_width_or_seconds_cost_the_rows_of_the_budget_together(rows, smallest):
    for limits in ({"width": 1e-9}, {"seconds": 60.0}, {"width": 1e-9, "seconds": 60.0}):
        asked = []
        found, cost = Budget(rows, **limits).spend(smallest, lambda limit: (asked.append(limit), Estimate(limit))[1])  # noqa: B023
        assert sum(asked) <= rows and cost == asked[-1] == max(asked) and found.errors[0] == 1 / cost
        assert cost >= rows / 2, "the last attempt takes what is left, which is more than all the earlier ones had"
        assert all(later >= 2 * earlier for earlier, later in pairwise(asked))


def test_no_attempt_takes_more_rows_than_tell_something():
    asked = []
    Budget(10_000, width=1e-9).spend(10, lambda limit: (asked.append(limit), Estimate(limit))[1], most=100)
    assert asked[-1] == 100 == max(asked)
    assert Budget(10_000).spend(10, Estimate, most=100)[1] == 100
    assert Budget(50).spend(10, Estimate, most=100)[1] == 50
    assert Budget(50, seconds=1e-9).spend(0, Estimate, most=0)[1] == 1, "no smallest attempt is no loop without end"


@pytest.mark.parametrize("explainer", SAMPLED)
@pytest.mark.parametrize("limits", [{}, {"width": 1e-9}, {"seconds": 30.0}])
def test_the_model_is_never_asked_for_more_rows_than_the_budget(wide, explainer, limits):
    table = make_table(60, numbers=7)
    found = explainer().explain(wide, table.head(2), table.take(np.arange(50, 54)), budget=900, **limits)
    assert wide.seen == found.details["model_rows"] <= 2 * 900 + 2, "and the answers themselves"
    assert max(found.details["rows_spent"]) <= 900


def test_kernels_calls_for_nobody_and_everybody_are_in_its_budget(wide):
    kernel = pytest.importorskip("affidavit_governance.explain.methods.kernel")
    table = make_table(60, numbers=7)
    for budget in (400, 1000, 1001, 1003):
        wide.seen = 0
        found = kernel.Kernel().explain(wide, table.head(2), table.take(np.arange(40, 60)), budget=budget)
        assert found.method == "kernel" and wide.seen <= 2 * budget + 2
    everything = kernel.Kernel().explain(wide, table.head(1), table.take(np.arange(56, 60)), budget=4 * 2**9)
    assert everything.details["exact"]


def test_kernel_with_no_player_at_work_is_paid_for_and_replays():
    kernel = pytest.importorskip("affidavit_governance.explain.methods.kernel")
    table = Dataset.from_arrow({"a": np.ones(20), "b": np.ones(20), "y": ["no", "yes"] * 10}, target="y")
    model = Formula(lambda data: data.to_numpy("a") * 0.3, table)
    found = kernel.Kernel().explain(model, table.head(1), table.take(np.arange(10, 15)), seconds=1e-9)
    again = kernel.Kernel().explain(model, table.head(1), table.take(np.arange(10, 15)), budget=found.details["rows_spent"])
    assert (again.values == found.values).all() and (found.values == 0).all() and found.base[0] == pytest.approx(0.3)
    with pytest.raises(UsageError, match="too small"):
        kernel.Kernel().explain(model, table.head(1), table.take(np.arange(10, 15)), budget=1)


@pytest.mark.parametrize("explainer", [Exact, *SAMPLED])
@pytest.mark.parametrize("count", [1, 3])
def test_a_list_of_budgets_has_one_for_each_row(formula, table, explainer, count):
    with pytest.raises(UsageError, match=f"lists {count} numbers, and 2 are due"):
        explainer().explain(formula, table.head(2), table.take(np.arange(50, 60)), budget=[4000] * count)


@pytest.mark.parametrize("explainer", [PermutationImportance, PartialDependence])
def test_a_model_as_a_whole_has_one_budget(formula, table, explainer):
    with pytest.raises(UsageError, match="lists 2 numbers, and 1 are due"):
        explainer().explain(formula, table.head(40), table, budget=[4000, 4000])


def test_a_budget_beyond_all_measure_is_a_limit_not_an_order():
    table = Dataset.from_arrow({"a": np.arange(40.0), "b": np.arange(40.0) % 7, "y": ["no", "yes"] * 20}, target="y")
    model = Formula(lambda data: data.to_numpy("a") / 50, table)
    for explainer in (Exact, Leverage, Permutation, Partition):
        found = explainer().explain(model, table.head(1), table.take(np.arange(30, 40)), budget=10**30)
        assert found.details["exact"] and found.residual[0] < 1e-12
    found = Lime().explain(model, table.head(1), table.take(np.arange(30, 40)), budget=10**30)
    assert found.details["rows_spent"] == [MOST_NEIGHBOURS]


def test_a_replay_of_an_enumeration_that_its_budget_paid_for_is_bit_equal(tmp_path):
    generator = np.random.default_rng(0)
    columns = {f"x{i}": generator.normal(size=60) for i in range(13)}
    columns["y"] = np.where(columns["x0"] > 0, "yes", "no")
    with af.Workspace(tmp_path / "ws", actor="tester") as workspace:
        data = workspace.load(pa.table(columns), target="y", name="wide")
        model = workspace.train("tabular.logistic", data)
        background = data.take(np.arange(40, 60))  # 20 · 2¹³ rows: more than the planner enumerates without being told
        found = workspace.explain(model, data.head(1), background=background, method="exact", budget=2**18)
        replayed = workspace.replay(found, data.head(1), model=model, background=background)
        with pytest.raises(UsageError, match="does not fit"):
            workspace.explain(model, data.head(1), background=background, method="exact", budget=[2**17])
    assert replayed.bit_equal
