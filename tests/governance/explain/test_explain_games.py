"""Explainers that play the game of each row, against brute force and one another."""

from __future__ import annotations

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, brute_force, interacting, make_table

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.model import Predictions
from affidavit.interfaces.outputs import relative_residual
from affidavit_governance.explain.case import BACKGROUND_ROWS
from affidavit_governance.explain.methods.kernel import Kernel
from affidavit_governance.explain.methods.lime import Lime
from affidavit_governance.explain.methods.linear import Linear
from affidavit_governance.explain.methods.sampled import Exact, Leverage, Permutation
from affidavit_governance.explain.methods.tree import Tree


def test_exact_equals_brute_force_over_strings_gaps_and_booleans(formula, table):
    background = table.take(np.arange(40, 49))
    found = Exact().explain(formula, table.head(6), background)
    for row in range(6):
        np.testing.assert_allclose(found.values[row], brute_force(formula, table, background, row), atol=1e-12)
    assert found.residual.max() < 1e-12
    assert found.details["exact"] and found.errors is None
    assert found.players == ("x0", "x1", "colour", "flag")


def test_permutation_covers_exact_within_its_intervals():
    data = make_table(120, numbers=6)
    model = Formula(lambda d: interacting(d) ** (1 + abs(d.to_numpy("x2") * d.to_numpy("x3"))), data)
    background = data.take(np.arange(40, 60))
    exact = Exact().explain(model, data.head(8), background)
    found = Permutation().explain(model, data.head(8), background, budget=20 * 200)
    assert found.errors is not None and found.errors[:, :4].min() > 0
    assert (abs(found.values - exact.values) <= found.errors + 1e-12).mean() > 0.85
    assert relative_residual(found).max() < 1e-12


@pytest.mark.parametrize("explainer", [Exact, Kernel, Leverage, Permutation, Lime])
def test_a_row_alone_equals_the_row_in_a_batch_and_global_random_state_is_untouched(explainer):
    data = make_table(90, numbers=5)
    model = Formula(interacting, data)
    background = data.take(np.arange(50, 62))
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    options = {} if explainer is Exact else {"budget": 12 * 40}
    batch = explainer().explain(model, data.head(4), background, **options)
    alone = explainer().explain(model, data.take([2]), background, **options)
    np.testing.assert_allclose(alone.values[0], batch.values[2], rtol=0, atol=1e-13)
    assert (np.random.get_state()[1] == before).all()
    if explainer is not Exact:
        other = explainer().explain(model, data.take([2]), background, seed=1, **options)
        assert (other.values != alone.values).any(), "the seed must matter for a sampled method"


def test_bad_input_is_refused(formula, table):
    background = table.take(np.arange(50, 60))
    with pytest.raises(InvalidInput, match="1 row"):
        Exact().explain(formula, table, table.head(1))
    with pytest.raises(InvalidInput, match="'colour' is missing"):
        Exact().explain(formula, table, background.select(["x0", "x1", "flag"]))
    with pytest.raises(UsageError, match="no class 'maybe'"):
        Exact().explain(formula, table, background, label="maybe")
    with pytest.raises(UsageError, match=r"no option 'sede'.*seed"):
        Exact().explain(formula, table, background, sede=3)
    for budget in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="budget"):
            Kernel().explain(formula, table, background, budget=budget)
    for explainer in (Kernel, Permutation, Lime):
        with pytest.raises(UsageError, match="too small"):
            explainer().explain(formula, table.head(1), background, budget=7)
    with pytest.raises(InvalidInput, match="not finite"):
        Exact().explain(Formula(lambda d: np.full(len(d), np.nan), table), table.head(2), background)
    with pytest.raises(UsageError, match="does not fit"):
        Linear().explain(formula, table, background)
    with pytest.raises(UsageError, match="does not fit"):
        Tree().explain(formula, table, background)


def test_a_model_with_labels_only_is_refused(formula, table, monkeypatch):
    honest = formula.predict
    monkeypatch.setattr(formula, "predict", lambda data: Predictions(honest(data).values, ("no", "yes")))
    with pytest.raises(InvalidInput, match="labels only"):
        Exact().explain(formula, table.head(2), table.take(np.arange(50, 60)))


@pytest.mark.parametrize("explainer", [Exact, Kernel, Leverage, Permutation, Lime])
def test_no_rows_give_an_explanation_without_rows(formula, table, explainer):
    found = explainer().explain(formula, table.head(0), table.head(20))
    assert len(found) == 0 and found.values.shape == (0, 4) and found.to_json()["residual"] == []


def test_a_large_background_is_sampled_and_the_record_says_how_many_rows(formula, table):
    found = Exact().explain(formula, table.head(2), table, seed=4)
    assert found.details["background_rows"] == BACKGROUND_ROWS
    assert found.details["background"] != table.fingerprint
