"""Neighbour replay: the same private run with and without one record, on the same randomness, compared step by step.

The batches are drawn from the same random words, and the same noise would be added to both runs' sums: it is left out, since its rounding
would only blur the difference (`check_noise` tests the noise). Each step starts from the same parameters, since the accountant bounds each
step given those before. Then the difference is the record's own clipped gradient, of norm C at most, in the steps that drew the record,
and nothing in all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.errors import PluginError, Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.model import Model, Predictions
from affidavit.interfaces.training import Release, Releases, Training
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.attacks.observed import (
    Losses,
    ObservedEngine,
    ObservedLoop,
    Parameters,
    Watcher,
    clipped_gradient,
    copies,
    engine_claim,
    joined,
    put,
)
from affidavit_governance.privacy.attacks.replay_releases import Call, ComparedReleases, RecordedReleases
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine

KEY = bytes(32)
"""Replays need the same randomness twice; nothing that a replay trains is released."""

BOUND = 0.1
"""The clipping bound C of a replay: small, so that nearly every example is clipped and an engine that does not clip stands out."""

EPSILON, DELTA = 0.5, 1e-3
"""Much noise is quick to calibrate, and a replay adds none."""

TOLERANCE = 1e-3
"""Share of C by which the record's part may miss its value: single-precision gradients, and the 1e-6 that clipping may add to norms."""

ROUNDING = 1e-5
"""Share of a sum's norm that single precision may lose."""

Statistics = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What one record did to a private run.

    Attributes
    ----------
    steps, drawn
        Steps (or releases) of the run, and those that the record took part in.
    bound
        C.
    largest
        The largest norm of a difference between the two runs' sums, over the steps that drew the record. Sums that a model released with
        another bound are scaled to C; minimisers have no such norm.
    largest_elsewhere
        The same over the steps that did not: 0 but for rounding.
    faults
        What is wrong, in words; empty if the replay passed.
    """

    steps: int
    drawn: int
    bound: float
    largest: float
    largest_elsewhere: float
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """The record."""
        return {
            "version": 1,
            "method": "neighbour replay",
            "steps": self.steps,
            "drawn": self.drawn,
            "bound": self.bound,
            "largest": self.largest,
            "largest_elsewhere": self.largest_elsewhere,
            "faults": list(self.faults),
        }


def neighbour_replay(make_model: Callable[[], Model], data: Dataset, row: int, *, policy: PrivacyPolicy | None = None) -> ReplayReport:
    """Train a model with and without row `row` on the same randomness, and report where more than the record's clipped gradient differs.

    Finds clipping that does not bound, layers and losses that mix examples, what a model reads of its rows past the engine and keeps or starts
    from, a sampling rate or a divisor that follows the row count, and a model that ignores its engine. The report is computed from the
    rows without noise: it is a test for whoever may see them, and is not to be published.

    Parameters
    ----------
    make_model
        Makes an unfitted model of a type with `private_training`. Its training must draw nothing at random in its forward pass (no
        dropout): the other examples' gradients would differ between the runs though the record plays no part in them.
    row
        The record to take out. Its class must occur in other rows too: the set of classes is public.
    policy
        What else to train under, such as another engine; its ε, δ, clipping bound and records are replaced.

    Raises
    ------
    UsageError
        There is no such row, the policy asks for other units or batches than a replay compares, or the model draws random numbers in its
        forward pass.
    """
    if not 0 <= row < len(data):
        raise UsageError(f"There is no row {row} among the {len(data)} rows.")
    given = policy or PrivacyPolicy()
    if given.unit != "record" or given.sampler != "poisson":
        raise UsageError("A replay compares runs that differ in one record of Poisson batches.", hint="Use the unit 'record' and sampler 'poisson'.")
    claim = engine_claim(given, len(data)).model_copy(update={"epsilon": EPSILON, "delta": DELTA, "max_grad_norm": BOUND})
    # Last, so that the other rows keep their numbers, and with them their share of the sampler's randomness, when it goes.
    others = [index for index in range(len(data)) if index != row]
    first = _Recorder(len(others))
    second = _Follower(first)
    try:
        model = _train(make_model, data.take([*others, row]), claim, first)
        neighbour = _train(make_model, data.take(others), claim, second)
    except (PluginError, Refused) as error:
        second.faults.setdefault("refused", str(error))
    else:
        second.compare(model.predict(data), neighbour.predict(data))
    return ReplayReport(
        len(first.steps) + len(first.calls),
        sum(step.own is not None for step in first.steps) + len(second.changes),
        BOUND,
        max([*second.with_record, *(BOUND * change for change in second.changes if change is not None)], default=0.0),
        max(second.elsewhere, default=0.0),
        tuple(second.faults.values()),
    )


def _train(make_model: Callable[[], Model], data: Dataset, policy: PrivacyPolicy, watcher: _Recorder | _Follower) -> Model:
    engine = PrivateEngine(policy, reserve=lambda events: None, source=_WithoutNoise(KEY))
    model = make_model()
    model.fit(data, Training(engine=_SharedStatistics(engine, len(data), watcher)))
    engine.check_finished(model.type)
    return model


class _WithoutNoise(Randomness):
    """Draws the same batches in every run, and adds no noise but to statistics, of which both runs use the first one's."""

    def add_noise_(self, sums: Sequence[torch.Tensor], deviation: float, purpose: Purpose, step: int) -> None:
        if purpose is Purpose.STATISTICS_NOISE:
            super().add_noise_(sums, deviation, purpose, step)

    def normal(self, purpose: Purpose, step: int, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


class _SharedStatistics(ObservedEngine):
    """Gives the second run the first one's statistics: they are released with noise of their own, and the steps are compared given them."""

    def __init__(self, engine: PrivateEngine, rows: int, watcher: _Recorder | _Follower) -> None:
        super().__init__(engine, members=np.arange(rows, dtype=np.int64), watcher=watcher)
        self._inner, self._run = engine, watcher

    def center_and_scale(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._run.statistics(super().center_and_scale(columns))

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> ObservedLoop:
        loop = super().begin(module, optimizer, rows=rows, batch_size=batch_size, epochs=epochs, seed=seed)
        self._run.divisor = float(self._inner.statement()["expected_batch_size"])
        return loop

    def releases(self, plan: Sequence[Release]) -> Releases:
        return self._run.releases(self._inner.releases(plan))


@dataclass(slots=True)
class _Step:
    """One step of the run with the record: the others' batch, the parameters before and after, the record's clipped gradient if drawn."""

    others: NDArray[np.int64]
    start: list[torch.Tensor]
    own: NDArray[np.float64] | None
    end: list[torch.Tensor] = field(default_factory=list)
    total: NDArray[np.float64] | None = None


class _Recorder(Watcher):
    """The run with the record, which is row number `record`, the last."""

    def __init__(self, record: int) -> None:
        self._record = record
        self.divisor = 1.0
        self.steps: list[_Step] = []
        self.calls: list[Call] = []
        self.answers: list[Statistics] = []

    def statistics(self, answer: Statistics) -> Statistics:
        self.answers.append(answer)
        return answer

    def releases(self, inner: Releases) -> Releases:
        return RecordedReleases(inner, self.calls)

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        if len(indices) and not any(len(past.others) for past in self.steps):
            _check_deterministic(losses, indices)
        drawn = self._record in indices
        own = joined(clipped_gradient(losses, self._record, parameters, BOUND)) if drawn else None
        self.steps.append(_Step(indices[indices != self._record], copies(parameters), own))

    def after(self, step: int, losses: Losses, parameters: Parameters, released: Sequence[torch.Tensor] | None) -> None:
        self.steps[-1].end = copies(parameters)
        self.steps[-1].total = None if released is None else joined(released) * self.divisor


class _Follower(Watcher):
    """The run without the record: starts each step where the first run did, and compares what it released."""

    def __init__(self, first: _Recorder) -> None:
        self._first = first
        self._asked = self._taken = 0
        self.divisor = 1.0
        self.with_record: list[float] = []
        self.elsewhere: list[float] = []
        self.faults: dict[str, str] = {}
        self._compared: ComparedReleases | None = None

    def statistics(self, answer: Statistics) -> Statistics:
        self._asked += 1
        return self._first.answers[self._asked - 1] if self._asked <= len(self._first.answers) else answer

    def releases(self, inner: Releases) -> Releases:
        self._compared = ComparedReleases(inner, self._first.calls, self.faults)
        return self._compared

    @property
    def changes(self) -> list[float | None]:
        """By how much the record moved each release that it took part in, over its bound."""
        return [] if self._compared is None else self._compared.changes

    def before(self, step: int, indices: NDArray[np.int64], losses: Losses, parameters: Parameters) -> None:
        if step >= len(self._first.steps):
            return
        past = self._first.steps[step]
        if [start.shape for start in past.start] != [parameter.shape for parameter in parameters]:
            raise PluginError("The shape of the model's parameters depends on the record.")
        if not all(torch.equal(start, parameter) for start, parameter in zip(past.start, parameters, strict=True)):
            self._fault(
                "start", step, "the parameters differ before it: rows, or randomness without the given seed, changed them outside of private steps"
            )
        if not np.array_equal(indices, past.others):
            self._fault("batch", step, "the other rows of the batch are not the same: the sampling depends on more than the declared records")
        put(parameters, past.start)

    def after(self, step: int, losses: Losses, parameters: Parameters, released: Sequence[torch.Tensor] | None) -> None:
        self._taken += 1
        if step >= len(self._first.steps):
            return
        past = self._first.steps[step]
        put(parameters, past.end)
        if released is None or past.total is None:
            self._fault("nothing", step, "no optimizer step was taken")
            return
        difference = past.total - joined(released) * self._first.divisor
        size = float(np.linalg.norm(difference))
        rounding = ROUNDING * (BOUND + float(np.linalg.norm(past.total)))
        if past.own is None:
            self.elsewhere.append(size)
            if size > rounding:
                self._fault(
                    "elsewhere",
                    step,
                    f"it did not draw the record, yet its sum differs by {size / BOUND:.3g} C: the divisor or the noise depends on it",
                )
            return
        self.with_record.append(size)
        if size > BOUND * (1 + TOLERANCE) + rounding:
            self._fault("bound", step, f"the record changed the sum by {size / BOUND:.3g} C, which is more than the clipping bound C")
        elif float(np.linalg.norm(difference - past.own)) > BOUND * TOLERANCE + rounding:
            self._fault("own", step, "the record changed the sum by other than its own clipped gradient: examples mix, or are clipped otherwise")

    def compare(self, model: Predictions, neighbour: Predictions) -> None:
        """Both models have the same weights now, set step by step: whatever else they know must be equal as well."""
        if self._taken != len(self._first.steps):
            self.faults["steps"] = "The number of steps depends on the record."
        if len(self._first.calls) != (0 if self._compared is None else self._compared.made):
            self.faults["releases"] = "The number of releases depends on the record."
        if not any(step.own is not None for step in self._first.steps) and not self.changes:
            self.faults["drawn"] = "No step drew the record, so nothing was tested: train for more epochs."
        if not _agree(model, neighbour):
            self.faults["answers"] = "With the same weights the models answer differently: they keep more of their rows than the private steps made."

    def _fault(self, kind: str, step: int, text: str) -> None:
        """The first of each kind is enough."""
        self.faults.setdefault(kind, f"Step {step + 1}: {text}.")


def _check_deterministic(losses: Losses, indices: NDArray[np.int64]) -> None:
    """Refuse a forward pass that draws random numbers, from torch's generator, which is lent for the purpose."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(1)
        one = losses(indices)
        torch.default_generator.manual_seed(2)
        other = losses(indices)
    if not torch.equal(one.nan_to_num(), other.nan_to_num()):
        raise UsageError("This model draws random numbers in its forward pass, so two runs cannot be compared.", hint="Replay it with dropout 0.")


def _agree(one: Predictions, other: Predictions) -> bool:
    if one.classes != other.classes or len(one) != len(other):
        return False
    if one.probabilities is not None and other.probabilities is not None:
        return bool(np.allclose(one.probabilities, other.probabilities, atol=1e-6))
    return bool(np.array_equal(one.values, other.values) if one.classes else np.allclose(one.values, other.values, rtol=1e-6))
