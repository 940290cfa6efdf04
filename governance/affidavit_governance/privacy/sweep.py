"""The privacy/utility curve of a project: the same model at several ε, measured, and every run paid for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from affidavit.errors import Refused, UsageError, nearest
from affidavit.interfaces.governance import JSON, Actor
from affidavit.interfaces.infer import infer_task
from affidavit.project import Job
from affidavit_governance.privacy.accounting import neighbours
from affidavit_governance.privacy.budget import Budget

if TYPE_CHECKING:
    from affidavit.interfaces.dataset import Dataset
    from affidavit.policy import PrivacyPolicy
    from affidavit.workspace import Workspace

METRICS = ("roc_auc", "accuracy", "r2", "rmse")
"""Which metric is taken where none is named: the first of these that the evaluation has."""

MEASURED = {
    True: ("accuracy", "balanced_accuracy", "f1", "roc_auc", "pr_auc", "log_loss", "brier", "expected_calibration_error"),
    False: ("mae", "rmse", "r2"),
}
"""What an evaluation can measure, of classes and of numbers: a name that is none of these is found before a run is paid for."""

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Point:
    """The runs at one ε.

    Attributes
    ----------
    value
        Mean of the metric over the runs.
    low, high
        95 % interval: of the one run's metric over the test rows, or, with several runs, of their mean by Student's t, on the same split.
        None where the evaluation gives none.
    values
        The metric of each run.
    spent
        What each run cost alone.
    """

    epsilon: float
    value: float
    low: float | None
    high: float | None
    values: list[float]
    spent: list[float]

    def to_json(self) -> dict[str, JSON]:
        """The point as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Curve:
    """A finished sweep.

    Attributes
    ----------
    joint
        ε at `delta` that each data set has spent now, by fingerprint: of all runs together, and of what was spent before.
    """

    metric: str
    delta: float
    points: list[Point]
    joint: dict[str, float]

    def to_json(self) -> dict[str, JSON]:
        """The curve as a JSON object."""
        return asdict(self)


def sweep(
    project: str | Path,
    epsilons: Sequence[float],
    *,
    repeats: int = 1,
    metric: str | None = None,
    out: str | Path | None = None,
    actor: str | Actor | None = None,
    on_run: Callable[[float, int, float], None] = lambda epsilon, repeat, value: None,
) -> Curve:
    """Train a project's model privately at each ε and measure it on the test rows.

    Each run is a training like any other: governed, in evidence, and charged to the data set's budget in the project's workspace. Nothing
    is trained where all of them do not fit together. The figures are read from the test rows without noise: the curve itself is not private.

    Parameters
    ----------
    epsilons
        None may be above the policy's own ``privacy.epsilon``.
    repeats
        Runs at each ε, on the same split.
    metric
        Default: the first of roc_auc, accuracy, r2 and rmse that the evaluation has.
    out
        The folder of the project's workspace, as for ``affidavit run``.
    on_run
        Called with ε, the number of the repeat and the metric, after each run.

    Raises
    ------
    UsageError
        No ε, one that is no positive number, no repeat, or an unknown metric; the policy asks for no privacy, or fixes the noise.
    Refused
        An ε is above the policy's, or all runs together do not fit the budget; the message says which part would.
    """
    wanted = sorted({float(epsilon) for epsilon in epsilons})
    if not wanted or not all(epsilon > 0 and math.isfinite(epsilon) for epsilon in wanted):
        raise UsageError("A sweep needs one positive epsilon or more.", hint="For example --epsilon 0.5,1,2.")
    if repeats < 1:
        raise UsageError(f"{repeats} repeats train nothing.")
    job = Job(project, out=out, actor=actor)
    with job.open() as workspace:
        policy = workspace.policy.privacy
        if policy is None:
            raise UsageError("The project's policy asks for no privacy, so there is nothing to vary.", hint="Add a 'privacy' section to it.")
        if policy.noise_multiplier is not None:
            raise UsageError("The project's policy fixes the noise, which a sweep varies.", hint="Leave privacy.noise_multiplier out of it.")
        _check_policy(wanted, policy)
        train, test = job.data(workspace)
        _check_metric(metric, train)
        _check_budget(Budget(workspace.store), train, wanted, repeats, policy)
        points = []
        for epsilon in wanted:
            point, metric = _point(job, workspace, train, test, epsilon, repeats, metric, on_run)
            points.append(point)
        budget = Budget(workspace.store)
        joint = {root: budget.spent(root, policy.delta) for root in sorted(train.roots)}
    assert metric is not None
    return Curve(metric, policy.delta, points, joint)


def _point(
    job: Job,
    workspace: Workspace,
    train: Dataset,
    test: Dataset,
    epsilon: float,
    repeats: int,
    metric: str | None,
    on_run: Callable[[float, int, float], None],
) -> tuple[Point, str]:
    section = job.project.model
    values, spent, low, high = [], [], None, None
    for repeat in range(repeats):
        model = workspace.train(section.type, train, seed=job.project.split.seed + repeat, spend=epsilon, **section.params)
        measured = workspace.evaluate(model, test).metrics
        metric = metric or next((name for name in METRICS if name in measured), min(measured))
        if metric not in measured:
            raise UsageError(f"The evaluation has no metric '{metric}'.", hint=f"It has: {', '.join(sorted(measured))}.")
        values.append(measured[metric].value)
        low, high = measured[metric].low, measured[metric].high
        spent.append(_cost(workspace))
        on_run(epsilon, repeat, values[-1])
    mean = sum(values) / repeats
    if repeats > 1:
        half = _half_width(values)
        low, high = mean - half, mean + half
    assert metric is not None
    return Point(epsilon, mean, low, high, values, spent), metric


def _cost(workspace: Workspace) -> float:
    """ε of the run that the ledger recorded last."""
    outcome = [evidence for evidence in workspace.ledger.entries("train") if evidence.predicate["phase"] == "outcome"][-1]
    return float(outcome.predicate["stages"]["privacy"]["epsilon"])


def _half_width(values: Sequence[float]) -> float:
    """Half of Student's t interval of the mean."""
    from scipy.stats import t

    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * math.sqrt(variance / len(values))


def _check_metric(metric: str | None, train: Dataset) -> None:
    known = MEASURED[infer_task(train).classifies]
    if metric is not None and metric not in known:
        raise UsageError(f"There is no metric '{metric[:80]}' for this target.{nearest(metric, known)}", hint=f"There are: {', '.join(known)}.")


def _check_policy(wanted: Sequence[float], policy: PrivacyPolicy) -> None:
    if wanted[-1] > policy.epsilon:
        allowed = [epsilon for epsilon in wanted if epsilon <= policy.epsilon]
        raise Refused(
            f"The sweep asks for epsilon = {wanted[-1]:g}, and the policy allows {policy.epsilon:g}.",
            by="privacy",
            line="privacy.epsilon",
            measured=wanted[-1],
            bound=policy.epsilon,
            satisfy=f"Within the policy: --epsilon {_listed(allowed)}." if allowed else "Ask for less, or change the policy.",
        )


def _check_budget(budget: Budget, train: Dataset, wanted: Sequence[float], repeats: int, policy: PrivacyPolicy) -> None:
    relation, group_size = neighbours(policy)

    def cost(epsilons: Sequence[float], repeats: int) -> float:
        runs = [*epsilons] * repeats
        return budget.with_runs(train.roots, runs, delta=policy.delta, relation=relation, group_size=group_size)

    total = cost(wanted, repeats)
    if total <= policy.dataset_budget:
        return
    for fewer in dict.fromkeys((repeats, 1)):
        for count in range(len(wanted), 0, -1):
            if cost(wanted[:count], fewer) <= policy.dataset_budget:
                part = f"This part would: --epsilon {_listed(wanted[:count])} --repeats {fewer}."
                raise _too_much(total, policy, part)
    raise _too_much(total, policy, "No part of it would; use public or synthetic data, or raise the budget and say why.")


def _too_much(total: float, policy: PrivacyPolicy, satisfy: str) -> Refused:
    return Refused(
        f"With all runs of the sweep the data set would have spent epsilon {total:.4g}, and its budget is {policy.dataset_budget:g}.",
        by="budget",
        line="privacy.dataset_budget",
        measured=round(total, 6),
        bound=policy.dataset_budget,
        satisfy=satisfy,
    )


def _listed(epsilons: Sequence[float]) -> str:
    return ",".join(f"{epsilon:g}" for epsilon in epsilons)
