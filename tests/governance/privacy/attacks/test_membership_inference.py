"""Membership inference: rates and intervals against published values, and attacks on models that leak, that cannot, and that are private."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Capabilities, Model, Predictions, Signature, Task
from affidavit.interfaces.training import Training
from affidavit.policy import PrivacyPolicy
from affidavit.workspace import Workspace
from affidavit_governance.privacy.attacks import assess, attack_membership, largest_true_positive_rate, lira, rmia, same_type
from affidavit_governance.privacy.training.engine import PrivateEngine


class Lookup(Model):
    """Answers the rows it was trained on by heart, and all others by chance."""

    type = "test.lookup"
    capabilities = Capabilities(probabilities=True)

    def fit(self, data: Dataset, training: Training | None = None) -> Lookup:
        self.known = dict(zip(data.to_numpy("x"), data.to_list("y"), strict=True))
        self.signature = Signature(data.features().schema, Task.BINARY, "y", ("no", "yes"))
        return self

    def predict(self, data: Dataset) -> Predictions:
        values = data.to_numpy("x")
        yes = np.array([{None: 0.5 + 0.1 * np.sin(v), "yes": 0.9, "no": 0.1}[self.known.get(v)] for v in values])
        return Predictions(np.where(yes > 0.5, "yes", "no"), ("no", "yes"), np.column_stack([1 - yes, yes]))

    def save(self, files: object) -> None: ...

    @classmethod
    def load(cls, files: object) -> Lookup:
        return cls()


class Stranger(Lookup):
    """Has never looked at its rows."""

    type = "test.stranger"

    def fit(self, data: Dataset, training: Training | None = None) -> Stranger:
        super().fit(data, training)
        self.known = {}
        return self


class Wide(Model):
    """A linear model with more weights than rows, trained privately where it is given an engine."""

    type = "test.wide"
    capabilities = Capabilities(probabilities=True, private_training=True)
    steps = 30

    def fit(self, data: Dataset, training: Training | None = None) -> Wide:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.layer = torch.nn.Linear(400, 2)
        inputs, labels = self.encode(data), torch.tensor([label == "yes" for label in data.to_list("y")]).long()
        optimizer = torch.optim.SGD(self.layer.parameters(), lr=2.0)
        if training is not None and training.engine is not None:
            loop = training.engine.begin(self.layer, optimizer, rows=len(data), batch_size=50, epochs=5, seed=0)
            for _ in range(5):
                for indices in loop.epoch():
                    loop.step(indices, lambda rows: torch.nn.functional.cross_entropy(self.layer(inputs[rows]), labels[rows], reduction="none"))
            loop.close()
        else:
            for _ in range(self.steps):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(self.layer(inputs), labels).backward()
                optimizer.step()
        self.signature = Signature(data.features().schema, Task.BINARY, "y", ("no", "yes"))
        return self

    @staticmethod
    def encode(data: Dataset) -> torch.Tensor:
        """Random features of the row's number."""
        values = torch.from_numpy(data.to_numpy("x").copy()).float()
        return torch.cos(values[:, None] * torch.arange(1, 401) ** 1.5) / 10

    def predict(self, data: Dataset) -> Predictions:
        with torch.no_grad():
            probabilities = torch.softmax(self.layer(self.encode(data)).double(), dim=1).numpy()
        return Predictions(np.where(probabilities[:, 1] > 0.5, "yes", "no"), ("no", "yes"), probabilities)

    def save(self, files: object) -> None: ...

    @classmethod
    def load(cls, files: object) -> Wide:
        return cls()


def rows(count: int, seed: int) -> Dataset:
    """Random labels: whatever a model knows of them, it knows from its training rows."""
    generator = np.random.default_rng(seed)
    return Dataset.from_arrow({"x": generator.normal(size=count) * 10, "y": generator.choice(["yes", "no"], count)}, target="y")


MEMBERS, OTHERS = rows(300, 1), rows(300, 2)


@pytest.mark.parametrize("method", ["rmia", "lira"])
def test_a_model_that_learnt_by_heart_gives_its_rows_away_at_no_false_positive(method: str) -> None:
    model = Lookup().fit(MEMBERS)
    report = attack_membership(model.predict, MEMBERS, OTHERS, train=same_type(model), method=method)  # type: ignore[arg-type]  # a literal
    assert report.auc.value > 0.99
    rare = report.points[0]
    assert rare.limit == 0.001 and rare.true_positive_rate.value > 0.9
    # none of 300 may be wrong at 0.1 %, so that the rate itself is only known to lie below 1.2 %
    assert rare.false_positive_rate.value == 0 and rare.false_positive_rate.high == pytest.approx(1 - 0.025 ** (1 / 300))


@pytest.mark.parametrize("method", ["rmia", "lira"])
def test_a_model_that_saw_nothing_gives_nothing_away(method: str) -> None:
    # The references did look, so scores differ from row to row; the target's answers still say nothing of who was in.
    report = attack_membership(Stranger().fit(MEMBERS).predict, MEMBERS, OTHERS, train=same_type(Lookup()), method=method)  # type: ignore[arg-type]
    assert report.auc.low is not None and report.auc.high is not None
    assert report.auc.low < 0.5 < report.auc.high
    assert report.points[1].true_positive_rate.low < 0.01 < report.points[1].true_positive_rate.high  # type: ignore[operator]  # set


def test_an_overfitted_model_is_attacked_and_the_same_model_trained_privately_stays_below_its_bound() -> None:
    epsilon, delta = 1.0, 1e-3
    engine = PrivateEngine(PrivacyPolicy(epsilon=epsilon, delta=delta), reserve=lambda events: None)
    private, plain = Wide().fit(MEMBERS, Training(engine=engine)), Wide().fit(MEMBERS)
    for model, leaks in ((plain, True), (private, False)):
        report = attack_membership(model.predict, MEMBERS, OTHERS, train=same_type(model))
        point = report.points[1]
        bound = float(largest_true_positive_rate(np.array(point.false_positive_rate.high), epsilon, delta))
        assert (point.true_positive_rate.low > bound) == leaks  # type: ignore[operator]  # set
        assert (report.auc.low > 0.7) == leaks  # type: ignore[operator]


def test_reference_models_leave_each_row_out_of_half_of_them_and_keep_the_roots() -> None:
    counts = np.zeros(600)
    both = np.concatenate([MEMBERS.to_numpy("x"), OTHERS.to_numpy("x")])

    def train(data: Dataset, seed: int) -> Callable[[Dataset], Predictions]:
        counts[np.isin(both, data.to_numpy("x"))] += 1
        assert len(data) == 300 and data.roots == MEMBERS.roots | OTHERS.roots
        seeds.append(seed)
        return Lookup().fit(data).predict

    seeds: list[int] = []
    attack_membership(Lookup().fit(MEMBERS).predict, MEMBERS, OTHERS, train=train, references=6, seed=3)
    assert (counts == 3).all()
    assert len(set(seeds)) == 6


def test_a_reference_that_never_saw_a_class_gives_it_no_probability() -> None:
    class OneClass(Lookup):
        def predict(self, data: Dataset) -> Predictions:
            return Predictions(np.full(len(data), "no"), ("no",), np.ones((len(data), 1)))

    report = attack_membership(Lookup().fit(MEMBERS).predict, MEMBERS, OTHERS, train=lambda data, seed: OneClass().fit(data).predict, references=2)
    assert np.isfinite(report.auc.value)


def test_a_governed_model_is_attacked_through_its_workspace_which_records_the_references_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    lines = [f"{a},{b},{c},{y}" for (a, b, c), y in zip(generator.normal(size=(240, 3)), generator.choice(["yes", "no"], 240), strict=True)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,y", *lines]))
    with Workspace(tmp_path / "ws") as workspace:
        train, test = workspace.load(tmp_path / "rows.csv", target="y").split(test=0.5, seed=1)
        model = workspace.train("tabular.tree", train)

        def governed(data: Dataset, seed: int) -> Callable[[Dataset], Predictions]:
            return partial(workspace.predict, workspace.train("tabular.tree", data, seed=seed))

        report = attack_membership(partial(workspace.predict, model), train, test, train=governed, references=2)
    assert report.auc.low is not None and report.auc.low > 0.6  # a tree learns random labels by heart


# -- the numbers -----------------------------------------------------------------------------------------------------------------------------


def test_intervals_are_clopper_and_pearsons() -> None:
    # 5 of 10: 0.1871 to 0.8129; 0 of 10: up to 0.3085 (Clopper and Pearson 1934, as tabulated)
    scores = np.array([3.0] * 5 + [1.0] * 5 + [2.0] + [0.0] * 9)
    point = assess(scores, np.arange(20) < 10, method="given", limits=[0.05]).points[0]
    rate, false = point.true_positive_rate, point.false_positive_rate
    assert (rate.value, round(rate.low or 0, 4), round(rate.high or 0, 4)) == (0.5, 0.1871, 0.8129)
    assert (false.value, false.low, round(false.high or 0, 4)) == (0.0, 0.0, 0.3085)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.lists(st.integers(0, 6), min_size=2, max_size=30), st.floats(0, 1))
@settings(deadline=None, max_examples=80)
def test_the_operating_point_is_the_best_threshold_that_keeps_the_limit(inside: list[int], outside: list[int], limit: float) -> None:
    scores, member = np.array([*inside, *outside], dtype=float), np.arange(len(inside) + len(outside)) < len(inside)
    report = assess(scores, member, method="given", limits=[limit])
    point = report.points[0]
    allowed = [t for t in (-1, *range(7)) if np.mean(np.array(outside) > t) <= limit]
    best = max(float(np.mean(np.array(inside) > t)) for t in allowed)
    if limit < 1:
        assert point.false_positive_rate.value <= limit + 1e-9
        assert point.true_positive_rate.value == pytest.approx(best)
    pairs = np.sign(np.subtract.outer(inside, outside))
    assert report.auc.value == pytest.approx(float(np.mean((pairs + 1) / 2)))
    assert report.auc.low <= report.auc.value <= report.auc.high  # type: ignore[operator]  # set


def test_the_auc_interval_covers_and_is_delongs() -> None:
    generator = np.random.default_rng(0)
    truth = 0.7602  # P[N(1, 1) > N(0, 1)] = Φ(1/√2)
    hits, deviations, widths = 0, [], []
    for _ in range(300):
        scores = np.concatenate([generator.normal(1, 1, 40), generator.normal(0, 1, 60)])
        auc = assess(scores, np.arange(100) < 40, method="given").auc
        assert auc.low is not None and auc.high is not None
        hits += auc.low <= truth <= auc.high
        deviations.append(auc.value)
        widths.append((auc.high - auc.low) / (2 * 1.96))
    assert 0.91 <= hits / 300 <= 0.98
    assert np.mean(widths) == pytest.approx(np.std(deviations), rel=0.15)


def test_perfect_separation_of_a_few_rows_is_not_taken_for_certainty() -> None:
    report = assess(np.arange(10.0), np.arange(10) >= 5, method="given")
    assert report.auc.value == 1 and report.auc.low == pytest.approx(0.025 ** (1 / 5)) and report.auc.high == 1


def test_scores_of_the_two_attacks_by_hand() -> None:
    references = np.array([[0.5, 0.2], [0.7, 0.4]])
    np.testing.assert_allclose(rmia(np.array([0.9, 0.3]), references), [np.log(0.9 / 0.6), 0.0], atol=1e-12)
    trained_on = np.array([[True, False], [True, False], [False, True], [False, True]])
    levels = np.array([[0.9, 0.5], [0.8, 0.4], [0.5, 0.9], [0.4, 0.8]])
    high, low = lira(np.array([0.85, 0.45]), levels, trained_on)
    assert high > 0 > low


def test_the_bound_on_any_attack_is_kairouz_oh_and_viswanaths() -> None:
    rate = np.array([0.0, 0.01, 0.2, 1.0])
    expected = [1e-5, np.exp(2) * 0.01 + 1e-5, 1 - np.exp(-2) * (1 - 1e-5 - 0.2), 1.0]
    np.testing.assert_allclose(largest_true_positive_rate(rate, 2.0, 1e-5), expected, atol=1e-12)


def test_the_record_says_that_it_is_not_private_and_holds_no_row(tmp_path: Path) -> None:
    model = Lookup().fit(MEMBERS)
    report = attack_membership(model.predict, MEMBERS, OTHERS, train=same_type(model), references=2)
    record = json.loads(json.dumps(report.to_json()))
    assert record["private"] is False
    assert record["members"] == record["non_members"] == 300 and record["references"] == 2
    assert "curve" not in record
    report.plot(tmp_path / "roc.png", epsilon=1.0, delta=1e-5)
    report.plot(tmp_path / "roc.svg")
    assert (tmp_path / "roc.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "roc.svg").read_bytes()


def test_what_cannot_be_attacked_is_refused_with_the_reason() -> None:
    model = Lookup().fit(MEMBERS)

    def attack(**changes: object) -> None:
        given = {"predict": model.predict, "members": MEMBERS, "non_members": OTHERS, "train": same_type(model), "references": 2} | changes
        attack_membership(**given)  # type: ignore[arg-type]  # one of them is wrong

    with pytest.raises(UsageError, match="even"):
        attack(references=3)
    with pytest.raises(UsageError, match="columns"):
        attack(non_members=OTHERS.select(["x"]))
    with pytest.raises(UsageError, match="members"):
        attack(members=MEMBERS.head(0))
    with pytest.raises(UsageError, match="probabilities"):
        attack(predict=lambda data: Predictions(np.zeros(len(data))))
    with pytest.raises(InvalidInput, match="target"):
        attack(members=MEMBERS.select(["x"]), non_members=OTHERS.select(["x"]))
    with pytest.raises(UsageError, match="all or in none"):
        lira(np.array([0.5]), np.array([[0.5], [0.5]]), np.array([[True], [True]]))
    with pytest.raises(UsageError, match="finite"):
        assess(np.array([1.0, np.nan]), np.array([True, False]), method="given")
