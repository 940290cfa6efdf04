"""What a model without gradient steps may ask of its rows: noisy sums and noisy minimisers, in a number announced before the first one.

All releases of a run share one ε. A model announces them with their shares; the noise is then calibrated so that all of them together, with
what the run released before, cost exactly that. Clipping, sensitivity and noise are all done here: a model cannot misstate them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.errors import PluginError, Refused
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.training import Release
from affidavit_governance.privacy.accounting import Event, calibrate, joint_epsilon
from affidavit_governance.privacy.mechanisms import convex
from affidavit_governance.privacy.mechanisms.sums import grouped
from affidavit_governance.privacy.randomness import Purpose, Randomness

Floats = NDArray[np.float64]

KINDS = ("sums", "minimise")
SHIFT_SHARE = 0.1
"""Share of ε that the curvature bound of a minimiser takes: more needs less penalty and more noise. Of 5, 10, 20 and 40 %, this one was at or
near the best accuracy on Adult and German credit at ε = 1 and 3."""

OUTPUT_FACTOR = 10.0
"""Noise multiplier of a minimiser's output over that of its objective. It hides the solver's tolerance, which is so small that this much
noise cannot be seen in the answer, and costs a hundredth of the precision."""

PRECISION = 1e-4


class PrivateReleases:
    """The announced releases of one run, in their order.

    Parameters
    ----------
    plan
        Kind and share of each release. Shares are of 1/σ², and of the curvature's part of ε.
    epsilon, delta
        What the run may cost in all.
    before
        What it released before.
    relation, group_size
        What a neighbouring data set differs in.
    noise_multiplier
        A fixed σ of all releases together, or None for the smallest one that fits `epsilon`.

    Raises
    ------
    PluginError
        There is nothing to release, or a kind or share that does not exist.
    UsageError
        What was released before leaves nothing.
    Refused
        What was released before leaves too little for a minimiser, or the fixed σ costs more than `epsilon`; none at all always does.
    """

    def __init__(
        self,
        plan: Sequence[Release],
        *,
        epsilon: float,
        delta: float,
        before: Sequence[Event],
        relation: str,
        group_size: int,
        noise_multiplier: float | None,
        source: Randomness,
    ) -> None:
        total = math.fsum(share for _, share in plan)
        if not plan or any(kind not in KINDS or not share > 0 for kind, share in plan) or not math.isfinite(total):
            raise PluginError("A model announced releases that do not exist, or shares that are not positive.", hint=f"Kinds: {', '.join(KINDS)}.")
        self._plan = [(kind, share / total) for kind, share in plan]
        self._source = source
        self._seen_by = relation, group_size
        self._epsilon = epsilon

        def cost(sigma: float) -> float:
            return joint_epsilon([*before, *self._planned_at(sigma)], delta)

        if noise_multiplier is None:
            alone = calibrate(epsilon, sampling_rate=1.0, steps=1, delta=delta, extra=before, relation=relation, group_size=group_size)
            self._sigma = alone if all(kind == "sums" for kind, _ in plan) else _smallest(cost, epsilon, alone)
        else:
            spent = cost(noise_multiplier) if noise_multiplier > 0 else math.inf
            if spent > epsilon:
                raise Refused(
                    f"A noise multiplier of {noise_multiplier:g} costs epsilon {spent:.4g}, and the policy allows {epsilon:g}.",
                    by="privacy",
                    line="privacy.noise_multiplier",
                    measured=round(spent, 4),
                    bound=epsilon,
                    satisfy="Leave it out: the smallest one that fits is found.",
                )
            self._sigma = noise_multiplier
        self._executed: list[Event] = []
        self._done = 0
        self._closed = False
        self.non_finite = 0
        self.notes: list[dict[str, JSON]] = []

    def _events(self, kind: str, share: float, sigma: float) -> list[Event]:
        """The mechanisms of one release of this share, at the noise multiplier `sigma` of all releases together."""
        relation, group_size = self._seen_by
        own = sigma / math.sqrt(share)
        if kind == "sums":
            return [Event("gaussian", own, 1.0, 1, relation, group_size)]
        shift = SHIFT_SHARE * self._epsilon * share / (group_size * (2 if relation == "replace-one" else 1))
        return [
            Event("objective_perturbation", own, 1.0, 1, relation, group_size, shift=shift),
            Event("gaussian", OUTPUT_FACTOR * own, 1.0, 1, relation, group_size),
        ]

    def _planned_at(self, sigma: float) -> list[Event]:
        return _together([event for kind, share in self._plan for event in self._events(kind, share, sigma)])

    @property
    def planned(self) -> list[Event]:
        """All that will have been released at the end."""
        return self._planned_at(self._sigma)

    @property
    def executed(self) -> list[Event]:
        """What was released so far, which counts from just before its noise is drawn."""
        return list(self._executed)

    def close(self) -> None:
        """Release nothing more."""
        self._closed = True

    def check_finished(self, model_type: str) -> None:
        """Raise PluginError unless all announced releases were made."""
        if self._done != len(self._plan):
            raise PluginError(
                f"Model type '{model_type}' made {self._done} of the {len(self._plan)} private releases that it announced.",
                hint="The model is not returned: what it did without them may have read the rows without noise.",
            )

    def sums(self, rows: Floats, *, bound: float, groups: NDArray[np.int64] | None = None, number: int = 1) -> tuple[Floats, float]:
        """Noisy sums over rows clipped to an L2 norm of `bound`, by group, shape number × columns, and the noise's standard deviation.

        One record takes part in one group, so that it moves all sums together by at most `bound` (L2).

        Raises
        ------
        PluginError
            This is not the release that was announced, or its arrays do not fit each other.
        """
        rows = self._checked(rows, bound)
        if number < 1 or (groups is not None and groups.shape != (len(rows),)) or (groups is None and number != 1):
            raise PluginError("Groups of a private sum do not fit its rows.")
        self.non_finite += int((~np.isfinite(rows).all(axis=1)).sum())
        total = grouped(convex.clipped(rows, bound), groups, number)
        (event,) = self._next("sums", {"columns": rows.shape[1], "groups": number, "bound": bound})
        deviation = event.noise_multiplier * bound
        return self._noisy(total, deviation, 2 * self._done), deviation

    def minimise(self, rows: Floats, targets: Floats, *, loss: str, bound: float, l2: float = 0.0, weights: Floats | None = None) -> Floats:
        """A noisy minimiser of Σ wᵢ f(xᵢᵀθ; yᵢ) + λ/2 ‖θ‖², by objective perturbation; shape (columns,).

        λ is `l2`, or more where one record's curvature needs it.

        Parameters
        ----------
        rows
            Clipped to an L2 norm of `bound`.
        targets
            0 or 1 for ``"logistic"``, in standard deviations for ``"huber"``, shape (rows,).
        weights
            Clipped to 0..1, shape (rows,).

        Raises
        ------
        PluginError
            This is not the release that was announced, or its arrays do not fit each other.
        """
        rows = self._checked(rows, bound)
        weights = np.ones(len(rows)) if weights is None else np.asarray(weights, dtype=np.float64)
        targets = np.asarray(targets, dtype=np.float64)
        if loss not in convex.LOSSES or targets.shape != (len(rows),) or weights.shape != (len(rows),) or not 0 <= l2 < math.inf:
            raise PluginError(f"A private minimum of the loss '{loss}' does not fit its rows.", hint=f"Losses: {', '.join(convex.LOSSES)}.")
        chosen = convex.LOSSES[loss]
        usable = np.isfinite(rows).all(axis=1) & np.isfinite(targets) & np.isfinite(weights)
        self.non_finite += int((~usable).sum())
        targets = np.where(usable, np.clip(targets, 0.0, 1.0) if loss == "logistic" else targets, 0.0)
        weights = np.where(usable, np.clip(weights, 0.0, 1.0), 0.0)
        shift = self._events("minimise", self._share(), self._sigma)[0].shift
        penalty = max(l2, chosen.curvature * bound**2 / -math.expm1(-shift))
        objective, output = self._next("minimise", {"loss": loss, "columns": rows.shape[1], "bound": bound, "penalty": penalty})
        size, step = rows.shape[1], 2 * self._done
        linear = objective.noise_multiplier * chosen.slope * bound * self._source.normal(Purpose.RELEASE_NOISE, step, size)
        theta = convex.minimise(convex.clipped(rows, bound), targets, weights, chosen, penalty, linear)
        spread = output.noise_multiplier * 2 * convex.TOLERANCE / penalty
        return self._noisy(theta, spread, step + 1)

    def _noisy(self, values: Floats, deviation: float, step: int) -> Floats:
        """`values` with noise, on the noise's lattice: see `affidavit_governance.privacy.gaussian`."""
        released = torch.tensor(values, dtype=torch.float64)
        self._source.add_noise_([released], deviation, Purpose.RELEASE_NOISE, step)
        return np.asarray(released.numpy())

    def _checked(self, rows: Floats, bound: float) -> Floats:
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or not rows.shape[1] or not 0 < bound < math.inf:
            raise PluginError("A private release needs rows × columns and a positive bound.")
        return rows

    def _share(self) -> float:
        if self._closed:
            raise PluginError("A model goes on with private releases after its call ended; what it spent is settled.")
        if self._done == len(self._plan):
            raise PluginError("A model asked for more releases than it announced; their noise is calibrated for those.")
        return self._plan[self._done][1]

    def _next(self, kind: str, note: dict[str, JSON]) -> list[Event]:
        """Count the next release as made, and give its mechanisms."""
        share = self._share()
        if self._plan[self._done][0] != kind:
            raise PluginError(f"A model announced '{self._plan[self._done][0]}' as its next release, and asked for '{kind}'.")
        events = self._events(kind, share, self._sigma)
        self._executed = _together([*self._executed, *events])
        self._done += 1
        said = {"release": kind, **note, "share": share}
        if self.notes and {**self.notes[-1], "times": 1} == {**said, "times": 1}:
            self.notes[-1]["times"] = int(str(self.notes[-1]["times"])) + 1
        else:
            self.notes.append({**said, "times": 1})
        return events


def _together(events: Sequence[Event]) -> list[Event]:
    """Equal events as one with more steps, in the order of their first."""
    steps: dict[Event, int] = {}
    for event in events:
        single = replace(event, steps=1)
        steps[single] = steps.get(single, 0) + event.steps
    return [replace(event, steps=count) for event, count in steps.items()]


def _smallest(cost: Callable[[float], float], epsilon: float, start: float) -> float:
    """The smallest σ, to a relative precision of 1e-4, whose cost is at most `epsilon`; `start` costs more."""
    from scipy.optimize import brentq

    low = high = math.log(start)
    while cost(math.exp(high)) > epsilon:
        low, high = high, high + 0.25
        if high > math.log(1e6):
            raise Refused(
                f"What the run released before leaves too little of epsilon = {epsilon:g} for its minimisers.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Ask for fewer statistics, or allow a larger epsilon.",
            )
    if low < high:
        high = float(brentq(lambda log_sigma: cost(math.exp(log_sigma)) - epsilon, low, high, xtol=PRECISION)) + PRECISION
    while cost(math.exp(high)) > epsilon:
        high += PRECISION
    return math.exp(high)
