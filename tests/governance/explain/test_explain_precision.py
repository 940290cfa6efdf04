"""Single precision serves estimates only: ends stay exact to double precision, exact methods never use it, and the record says so."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from affidavit import Dataset
from affidavit_governance.explain.estimators.blas import one_blas_thread
from affidavit_governance.explain.methods.sampled import Exact, Leverage
from affidavit_plugins.tabular.mlp import MLP


@pytest.fixture(scope="module")
def case():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(150, 8))
    label = np.where(x[:, 0] * x[:, 1] + x[:, 2] > 0, "yes", "no")
    data = Dataset.from_arrow({**{f"x{i}": x[:, i] for i in range(8)}, "y": label}, target="y")
    return MLP(hidden=(16, 16), epochs=5).fit(data), data.head(3), data.take(np.arange(50, 80))


def test_an_estimate_rests_on_single_precision_and_still_adds_up_to_the_last_bits(case):
    model, rows, background = case
    found = Leverage().explain(model, rows, background, budget=30 * 120)
    assert found.details["precision"] == "single" and found.residual.max() < 1e-12
    exact = Exact().explain(model, rows, background)
    assert (abs(found.values - exact.values) <= 3 * found.errors).all()


def test_exact_values_are_of_double_precision(case):
    model, rows, background = case
    found = Exact().explain(model, rows, background)
    assert found.details["precision"] == "double" and found.residual.max() < 1e-12
    paid = Leverage().explain(model, rows, background, budget=30 * 2**8)
    assert paid.exact and np.array_equal(paid.values, found.values), "a budget that pays for everything is answered as exact is"


def test_a_head_that_loses_too_much_in_single_precision_is_asked_in_double(case, monkeypatch):
    model, rows, background = case
    view = model.encoded_view()
    from dataclasses import replace

    def rough(products):
        answers = view.head(products)
        return answers + (0.001 if products.dtype == np.float32 else 0.0)

    monkeypatch.setattr(model, "encoded_view", lambda: replace(view, head=rough))
    assert Leverage().explain(model, rows, background, budget=30 * 120).details["precision"] == "double"


def blas_threads():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_gets_its_threads_back_when_the_last_explanation_is_done():
    before = blas_threads()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with one_blas_thread():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread():
        thread.start()
        inside.wait(10)
        assert blas_threads() == {1}
    assert blas_threads() == {1}, "the other one is not done"
    leave.set()
    thread.join()
    assert blas_threads() == before
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        raise ValueError("inside")
    assert blas_threads() == before
