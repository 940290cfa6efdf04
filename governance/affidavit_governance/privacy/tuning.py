"""Private choice of parameters, with what the repetition costs.

Training many times and keeping the best costs more than training once, also where only the best is published. Here the number of trials is
random, each trial takes a random candidate, and the best noisy score wins (Liu and Talwar 2019; Papernot and Steinke 2022, with the logarithmic
distribution, whose cost grows slowest with the number of trials). Nothing but the winner may leave: the number of trials and the other scores
stay inside.
"""

from __future__ import annotations

import math
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError, Refused, UngovernedCallWarning, UsageError
from affidavit.interfaces.columns import text_values
from affidavit.interfaces.model import Task
from affidavit.interfaces.training import Release, Training
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import Event, joint_epsilon, neighbours, repeat_and_select
from affidavit_governance.privacy.accounting.events import merge
from affidavit_governance.privacy.accounting.rdp import divergences, gamma
from affidavit_governance.privacy.contributions import bound_contributions
from affidavit_governance.privacy.mechanisms.discrete import Integers, discrete_laplace
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.engine import PrivateEngine

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.interfaces.model import Model
    from affidavit_governance.privacy.budget import Budget

LOGARITHMIC = 0.0
"""η of Papernot and Steinke's truncated negative binomial distribution."""

GRID = 2**20
"""Steps between the worst and the best score of one row."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The winner.

    Attributes
    ----------
    params
        The candidate.
    score
        Its noisy score, a sum over the validation rows: right answers, or for numbers one less each error's share of the target's bounds.
    event
        What the whole search costs.
    epsilon
        ε of that event alone.
    """

    params: Mapping[str, Any]
    score: float
    event: Event
    epsilon: float


def tune(
    make: Callable[..., Model],
    candidates: Sequence[Mapping[str, Any]],
    train: Dataset,
    validation: Dataset,
    *,
    policy: PrivacyPolicy,
    budget: Budget,
    trial_epsilon: float,
    score_epsilon: float,
    mean: float = 10.0,
    source: Randomness | None = None,
) -> Tuned:
    """Find good parameters privately, on the budget of the data sets' roots.

    Parameters
    ----------
    make
        Makes an unfitted model from a candidate's parameters.
    candidates
        Public, and of nearly the same cost: one of them must cost at least as much as each other at every Rényi order.
    validation
        Rows to score by, which are no training rows.
    policy
        Its ε is the most that the whole search may cost; its δ, unit, relation and budget apply.
    trial_epsilon, score_epsilon
        ε of each training, and of each score (pure).
    mean
        Expected number of trials.
    source
        Where the number of trials, the candidates and the scores' noise come from; None, for everything but tests, is the operating system.

    Raises
    ------
    UsageError
        No candidates, a policy without noise, candidates that cost differently, or a numeric target without public bounds.
    Refused
        The search would cost more than the policy allows, or than the budget has left.
    PluginError
        A model spent something else than it announced.
    """
    if not candidates:
        raise UsageError("There are no candidates to choose from.")
    if policy.without_noise:
        raise UsageError(
            "A private search trains with noise: what its trials read without it would show in the winner.",
            hint="Leave privacy.without_noise out of the policy.",
        )
    relation, group_size = neighbours(policy)
    if policy.user is not None:
        train, validation = (bound_contributions(rows, policy.user, policy.unit_records, Randomness()) for rows in (train, validation))
    own = policy.model_copy(update={"epsilon": trial_epsilon})
    planned = [_plan(make(**params), train, own) for params in candidates]
    # One record moves the score by at most one, a group by its size, a replaced record by two.
    noise = group_size * (2 if relation == "replace-one" else 1) / _fraction(score_epsilon)
    score = Event("pure", float(noise), 1.0, 1, relation, group_size)
    event = repeat_and_select([*_costliest(planned), score], mean=mean, shape=LOGARITHMIC)
    cost = joint_epsilon([event], policy.delta)
    if cost > policy.epsilon:
        raise Refused(
            f"This search would cost epsilon {cost:.4g}, and the policy allows {policy.epsilon:g}.",
            by="privacy",
            line="privacy.epsilon",
            measured=round(cost, 6),
            bound=policy.epsilon,
            satisfy="Lower trial_epsilon, score_epsilon or the mean number of trials.",
        )
    call = f"tuning-{secrets.token_hex(8)}"
    budget.reserve(call, sorted(train.roots | validation.roots), [event], delta=policy.delta, limit=policy.dataset_budget)
    integers = Integers(source or Randomness())
    best: tuple[int, int] | None = None
    try:
        for _ in range(repetitions(integers, mean)):
            place = integers.below(len(candidates))
            model = _trained(make(**candidates[place]), train, own, planned[place])
            # Scores are noisy, so that ties tell nothing.
            found = _score(model, validation) + discrete_laplace(integers, GRID * noise)
            best = (found, place) if best is None else max(best, (found, place))
    finally:
        # What happened inside is not known outside: the whole search is charged.
        budget.commit(call, [event])
    assert best is not None  # there is one repetition at least
    return Tuned(dict(candidates[best[1]]), best[0] / GRID, event, cost)


def repetitions(integers: Integers, mean: float) -> int:
    """A draw from the logarithmic distribution: P(k) = (1-γ)^k / (k log(1/γ)) for k = 1, 2, … (Papernot and Steinke 2022, definition 1)."""
    if mean == 1:
        return 1
    rate = gamma(mean, LOGARITHMIC)
    level = (integers.below(2**53) + 0.5) / 2**53
    number, below = 1, (1 - rate) / -math.log(rate)
    term = below
    while below < level and term > 0:
        number += 1
        term *= (1 - rate) * (number - 1) / number
        below += term
    return number


class _PlannedError(Exception):
    """Ends a rehearsal where the first row would be trained on."""


class _Rehearsal(PrivateEngine):
    """A private engine that only finds out what a model is going to release. What it reads on the way stays inside."""

    announced: tuple[Event, ...] = ()

    def _set_aside(self, planned: Sequence[Event]) -> None:
        super()._set_aside(planned)
        self.announced = tuple(planned)

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> Any:
        super().begin(module, optimizer, rows=rows, batch_size=batch_size, epochs=epochs, seed=seed).close()
        raise _PlannedError

    def releases(self, plan: Sequence[Release]) -> Any:
        super().releases(plan)
        raise _PlannedError


def _plan(model: Model, data: Dataset, policy: PrivacyPolicy) -> tuple[Event, ...]:
    engine = _Rehearsal(policy, reserve=lambda events: None)
    try:
        _fit(model, data, engine)
    except _PlannedError:
        return engine.announced
    raise PluginError(f"Model type '{model.type}' did not train through the engine that it was given.")


def _trained(model: Model, data: Dataset, policy: PrivacyPolicy, planned: Sequence[Event]) -> Model:
    engine = PrivateEngine(policy, reserve=lambda events: None)
    _fit(model, data, engine)
    engine.check_finished(model.type)
    if (divergences(merge(engine.events)) > divergences(merge(planned)) * (1 + 1e-9)).any():
        raise PluginError(f"Model type '{model.type}' released more than it did in rehearsal: its releases depend on more than its parameters.")
    return model


def _fit(model: Model, data: Dataset, engine: PrivateEngine) -> None:
    with warnings.catch_warnings():
        # Its budget and its bounds are seen to here.
        warnings.simplefilter("ignore", UngovernedCallWarning)
        model.fit(data, Training(engine=engine))


def _costliest(planned: Sequence[Sequence[Event]]) -> Sequence[Event]:
    """The plan that costs at least as much as each other at every order: a random one of them costs no more.

    Rényi divergence is quasi-convex (van Erven and Harremoës 2014, theorem 13).
    """
    curves: list[NDArray[np.float64]] = [divergences(merge(events)) for events in planned]
    most = np.max(curves, axis=0)
    for events, curve in zip(planned, curves, strict=True):
        if (curve >= most * (1 - 1e-9)).all():
            return events
    raise UsageError(
        "The candidates cost differently: none of them costs most at every Rényi order.", hint="Keep batch size and epochs the same in all of them."
    )


def _score(model: Model, data: Dataset) -> int:
    """Sum of the rows' scores, each between 0 and `GRID`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UngovernedCallWarning)
        answers = model.predict(data).values
    target = data.schema.target
    if target is None:
        raise UsageError("The validation rows have no target.")
    if model.fitted.task is not Task.REGRESSION:
        return GRID * sum(str(answer) == truth for answer, truth in zip(answers, text_values(data, target.name), strict=True))
    if target.bounds is None:
        raise UsageError(f"The target '{target.name}' has no public bounds, without which one row's score has none.", hint="Declare bounds for it.")
    errors = np.abs(answers - np.clip(data.to_numpy(target.name), *target.bounds)) / (target.bounds[1] - target.bounds[0])
    return int(np.rint(GRID * (1 - np.clip(np.nan_to_num(errors, nan=1.0), 0, 1))).astype(np.int64).sum())


def _fraction(epsilon: float) -> Fraction:
    if not 0 < epsilon < math.inf:
        raise UsageError(f"score_epsilon = {epsilon} gives no score.", hint="It must be positive.")
    return Fraction(epsilon)
