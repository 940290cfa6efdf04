"""One-run privacy audit: from guesses about canaries to a lower bound on ε. Numbers in, numbers out.

Steinke, Nasr and Jagielski (2023), "Privacy Auditing with One (1) Training Run". Each of m canaries is put into the training data by a fair
coin of its own; the auditor looks at what training released and guesses r of the coins. Under (ε, δ)-differential privacy the number v of
right guesses cannot be much larger than what r answers of ε-randomised response would give, so that many right guesses refute a small ε.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import UsageError
from affidavit.interfaces.governance import JSON

PRECISION = 1e-6
"""Width of the interval at which the search for ε stops; its lower end is the answer."""

SHARES = (1.0, 0.5, 0.2, 0.1)
"""Shares of the canaries that are guessed by default: a strong attack gains by guessing all, a weak one by guessing the extremes only."""


def p_value(canaries: int, guesses: int, correct: int, *, epsilon: float, delta: float = 0.0) -> float:
    """Bound on the chance of `correct` or more right guesses, if training is (ε, δ)-differentially private: theorem 5.2 of the paper.

    Parameters
    ----------
    canaries, guesses, correct
        m fair coins, r of them guessed, v guessed right: 0 ≤ v ≤ r ≤ m.
    epsilon, delta
        The guarantee to refute, for neighbours that differ in one canary.

    Raises
    ------
    UsageError
        A number is out of its range.
    """
    from scipy.special import expit
    from scipy.stats import binom

    if not 0 <= correct <= guesses <= canaries:
        raise UsageError(f"{correct} right of {guesses} guesses about {canaries} canaries cannot be.", hint="Right ≤ guesses ≤ canaries.")
    if not epsilon >= 0 or not 0 <= delta < 1:
        raise UsageError(f"epsilon = {epsilon:g}, delta = {delta:g} is no guarantee.", hint="epsilon ≥ 0 and 0 ≤ delta < 1.")
    accuracy = float(expit(epsilon))  # of ε-randomised response
    pure = float(binom.sf(correct - 1, guesses, accuracy))
    if delta == 0 or correct == 0:
        return min(1.0, pure)
    # δ lets the number of right guesses jump: the worst is the mean probability of the values just below v.
    below = np.cumsum(binom.pmf(np.arange(correct - 1, -1, -1), guesses, accuracy))
    jump = float(np.max(below / np.arange(1, correct + 1)))
    return min(1.0, pure + 2 * canaries * delta * jump)


def epsilon_lower_bound(canaries: int, guesses: int, correct: int, *, delta: float = 0.0, confidence: float = 0.95) -> float:
    """The ε that a training run exceeds, at `confidence`, if `correct` of `guesses` about `canaries` were right; 0 where nothing is refuted.

    Whatever ε is refuted, so is every smaller one, because a smaller ε is a stronger guarantee; hence the lower end of a bisection holds
    whether or not `p_value` grows everywhere.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"A confidence of {confidence} is no probability between 0 and 1.")
    error = 1 - confidence
    low, high = 0.0, 1.0
    if p_value(canaries, guesses, correct, epsilon=low, delta=delta) >= error:
        return 0.0
    while p_value(canaries, guesses, correct, epsilon=high, delta=delta) < error:
        low, high = high, 2 * high
    while high - low > PRECISION:
        middle = (low + high) / 2
        if p_value(canaries, guesses, correct, epsilon=middle, delta=delta) < error:
            low = middle
        else:
            high = middle
    return low


def detectable_epsilon(canaries: int, guesses: int, *, delta: float = 0.0, confidence: float = 0.95) -> float:
    """The largest lower bound that an audit of this size can give: all its guesses right. A leak above it looks the same."""
    return epsilon_lower_bound(canaries, guesses, guesses, delta=delta, confidence=confidence)


def guess(scores: NDArray[np.float64], guesses: int) -> NDArray[np.int8]:
    """Guesses about every canary: 1 (in) for the highest scores, -1 (out) for the lowest, 0 (no guess) between; half of `guesses` each.

    An odd guess goes to "in".
    """
    if not 0 <= guesses <= len(scores):
        raise UsageError(f"{guesses} guesses cannot be made about {len(scores)} canaries.")
    if not np.isfinite(scores).all():
        raise UsageError("A canary's score is not finite, so that the canaries cannot be ranked.")
    order = np.argsort(scores, kind="stable")
    answers = np.zeros(len(scores), dtype=np.int8)
    answers[order[len(scores) - (guesses + 1) // 2 :]] = 1
    answers[order[: guesses // 2]] = -1
    return answers


@dataclass(frozen=True, slots=True)
class Plan:
    """One number of guesses and what came of it: `guesses` r, of which `correct` v, and the lower bound on ε by itself."""

    guesses: int
    correct: int
    epsilon_lower: float
    epsilon_detectable: float

    def to_json(self) -> dict[str, JSON]:
        """The plan as a JSON object."""
        return {
            "guesses": self.guesses,
            "correct": self.correct,
            "epsilon_lower": self.epsilon_lower,
            "epsilon_detectable": self.epsilon_detectable,
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a one-run audit found.

    Attributes
    ----------
    attack
        ``"white box"`` or ``"black box"``.
    canaries
        m, each put in by a fair coin.
    plans
        The numbers of guesses that were fixed before the scores were seen. Each bound holds at 1 - (1 - `confidence`) / number of plans, so
        that the largest holds at `confidence` (union bound): the best plan may be picked afterwards.
    epsilon_upper
        The accountant's ε at `delta` for the same run, None for training without a claim.
    confidence
        Of the lower bound.
    """

    attack: str
    canaries: int
    plans: tuple[Plan, ...]
    delta: float
    epsilon_upper: float | None
    confidence: float

    @property
    def best(self) -> Plan:
        """The plan with the largest lower bound."""
        return max(self.plans, key=lambda plan: plan.epsilon_lower)

    @property
    def epsilon_lower(self) -> float:
        """ε is at least this, at `confidence`."""
        return self.best.epsilon_lower

    @property
    def epsilon_detectable(self) -> float:
        """The most that this audit could have shown, had every guess been right."""
        return max(plan.epsilon_detectable for plan in self.plans)

    @property
    def refuted(self) -> bool:
        """Whether the claimed ε is refuted."""
        return self.epsilon_upper is not None and self.epsilon_lower > self.epsilon_upper

    def to_json(self) -> dict[str, JSON]:
        """The record: everything that is needed to compute the bound again."""
        return {
            "version": 1,
            "method": "one-run audit (Steinke, Nasr, Jagielski 2023)",
            "attack": self.attack,
            "canaries": self.canaries,
            "guesses": self.best.guesses,
            "correct": self.best.correct,
            "epsilon_lower": self.epsilon_lower,
            "epsilon_upper": self.epsilon_upper,
            "epsilon_detectable": self.epsilon_detectable,
            "delta": self.delta,
            "confidence": self.confidence,
            "refuted": self.refuted,
            "thresholds": "numbers of guesses fixed beforehand, union bound over them",
            "plans": [plan.to_json() for plan in self.plans],
        }

    def __str__(self) -> str:
        upper = "no claim" if self.epsilon_upper is None else f"claimed at most {self.epsilon_upper:.3f}"
        return (
            f"{self.attack}: epsilon at least {self.epsilon_lower:.3f} ({self.confidence:.0%} confidence), {upper}; "
            f"this audit could have shown {self.epsilon_detectable:.3f} at most "
            f"({self.canaries} canaries, {self.best.correct} of {self.best.guesses} guesses right)"
        )

    def plot(self, path: str | Path) -> None:
        """Draw the bounds to a PNG or SVG file."""
        from affidavit_governance.privacy.attacks.plots import plot_audit

        plot_audit(self, path)


def audit_scores(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    attack: str,
    delta: float,
    epsilon_upper: float | None = None,
    guesses: Sequence[int] | None = None,
    confidence: float = 0.95,
) -> AuditReport:
    """Lower bound on ε from one score a canary, higher where the canary looks included.

    Parameters
    ----------
    scores, included
        Shape m. `included` are the coins, which must be fair, independent, and unknown to whoever scored.
    guesses
        Numbers of guesses to try, chosen without a look at the scores; each but the first costs confidence. Default: `SHARES` of m.
    """
    if scores.shape != included.shape or scores.ndim != 1 or not len(scores):
        raise UsageError(f"There are {scores.shape} scores for {included.shape} canaries.", hint="Give one score for each canary.")
    count = len(scores)
    tried = sorted({math.ceil(share * count) for share in SHARES} if guesses is None else set(guesses), reverse=True)
    if not tried:
        raise UsageError("An audit needs at least one number of guesses.")
    each = 1 - (1 - confidence) / len(tried)
    truth = np.where(included, 1, -1)
    plans = []
    for number in tried:
        right = int(np.sum(guess(scores, number) == truth))
        lower = epsilon_lower_bound(count, number, right, delta=delta, confidence=each)
        plans.append(Plan(number, right, lower, detectable_epsilon(count, number, delta=delta, confidence=each)))
    return AuditReport(attack, count, tuple(plans), delta, epsilon_upper, confidence)
