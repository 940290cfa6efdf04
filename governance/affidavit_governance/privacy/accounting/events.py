"""What ran on a data set, as numbers: one record of evidence for each mechanism, in a form that every accountant reads."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from affidavit.errors import InvalidInput, UsageError

Relation = Literal["add-or-remove-one", "replace-one"]
RELATIONS: tuple[str, ...] = get_args(Relation)
MECHANISMS = ("gaussian", "laplace", "pure", "repeat_and_select", "objective_perturbation")
ADDITIVE = ("laplace", "pure")
"""Mechanisms of pure differential privacy: their ε adds up exactly at δ = 0."""

LARGEST_GROUP = 1000
LARGEST_MEAN = 1e6
LARGEST_NOISE = 1e100
"""Its square is still a number."""


@dataclass(frozen=True, slots=True)
class Event:
    """One mechanism, run `steps` times on independent Poisson samples of the data.

    What a neighbouring data set differs in is a group of `group_size` records, added or removed (``add-or-remove-one``) or replaced
    (``replace-one``). The unit ``label`` is covered by ``replace-one``: two data sets that differ in one label differ in one record. A user
    with at most k records is a group of k records.

    Attributes
    ----------
    mechanism
        ``"gaussian"``; ``"laplace"`` (without sampling); ``"pure"``, any mechanism of pure ε-differential privacy of one record added or
        removed (without sampling); ``"repeat_and_select"``, see `repeat_and_select`; ``"objective_perturbation"`` (without sampling), see
        `affidavit_governance.privacy.accounting.objective`.
    noise_multiplier
        Standard deviation σ of the noise over the bound C of one record's contribution (L2); for Laplace the scale b over the L1 bound; for
        ``"pure"`` 1/ε; 0 for ``"repeat_and_select"``.
    sampling_rate
        Probability q of each record to take part in a step; 1 means all records. Batches that are no Poisson samples, such as the ones of
        a shuffled epoch, have no amplification by sampling: each epoch is one event of rate 1.
    steps
        How often it ran.
    relation, group_size
        See above.
    repeated, mean, shape
        Of ``"repeat_and_select"`` only: what each repetition runs, and the distribution of their number.
    shift
        Of ``"objective_perturbation"`` only: -log(1 - β/λ), of the curvatures of one record's loss and of the penalty.

    Raises
    ------
    UsageError
        A number out of its range: no noise, a rate outside (0, 1], fewer than no steps.
    """

    mechanism: str
    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    relation: str = "add-or-remove-one"
    group_size: int = 1
    repeated: tuple[Event, ...] = ()
    mean: float = 0.0
    shape: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.mechanism not in MECHANISMS:
            raise UsageError(f"There is no mechanism '{self.mechanism}'.", hint=f"Known: {', '.join(MECHANISMS)}.")
        if self.relation not in RELATIONS:
            raise UsageError(f"There is no neighbour relation '{self.relation}'.", hint=f"Known: {', '.join(RELATIONS)}.")
        if not 1 <= self.group_size <= LARGEST_GROUP:
            raise UsageError(f"A group of {self.group_size} records is not accounted for.", hint=f"It must have 1 to {LARGEST_GROUP} records.")
        if not 0 < self.sampling_rate <= 1:
            raise UsageError(f"A sampling rate of {self.sampling_rate} is no probability.", hint="It must be above 0 and at most 1.")
        if self.mechanism != "gaussian" and self.sampling_rate != 1:
            raise UsageError(f"A sampled {self.mechanism} mechanism is not accounted for.", hint="Use sampling_rate=1, or the Gaussian mechanism.")
        if self.steps < 0:
            raise UsageError(f"{self.steps} is no number of steps.")
        if not 0 <= self.shift < math.inf or (self.shift > 0) != (self.mechanism == "objective_perturbation"):
            raise UsageError(f"A shift of {self.shift} does not go with the mechanism {self.mechanism}.")
        if self.mechanism == "repeat_and_select":
            self._check_repetition()
        elif self.repeated or self.mean or self.shape:
            raise UsageError(f"A {self.mechanism} mechanism has no repetitions.", hint="Use repeat_and_select(events, ...).")
        elif not 0 < self.noise_multiplier <= LARGEST_NOISE:
            hint = f"It must be a positive number up to {LARGEST_NOISE:g}."
            raise UsageError(f"A noise multiplier of {self.noise_multiplier} gives no differential privacy.", hint=hint)

    def _check_repetition(self) -> None:
        if self.noise_multiplier != 0 or not self.repeated or any(event.repeated for event in self.repeated):
            raise UsageError("A repetition needs plain mechanisms to repeat, and has no noise of its own.")
        if not 1 <= self.mean <= LARGEST_MEAN or not self.shape >= 0:
            raise UsageError(f"Repetitions with mean {self.mean} and shape {self.shape} are not accounted for.", hint="The mean is at least one.")
        if any((event.relation, event.group_size) != (self.relation, self.group_size) for event in self.repeated):
            raise UsageError("A repetition and what it repeats must be about the same neighbours.")

    def under(self, relation: str, group_size: int) -> Event:
        """The same mechanism, seen by neighbours of another relation or group size."""
        return replace(self, relation=relation, group_size=group_size, repeated=tuple(event.under(relation, group_size) for event in self.repeated))

    def to_json(self) -> dict[str, Any]:
        """The event as a JSON object."""
        about = {"steps": self.steps, "relation": self.relation, "group_size": self.group_size}
        if self.mechanism == "repeat_and_select":
            shape = "poisson" if math.isinf(self.shape) else self.shape
            return {"type": self.mechanism, **about, "mean": self.mean, "shape": shape, "repeated": [event.to_json() for event in self.repeated]}
        shift = {"shift": self.shift} if self.shift else {}
        return {"type": self.mechanism, "noise_multiplier": self.noise_multiplier, "sampling_rate": self.sampling_rate, **about, **shift}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Event:
        """Read what `to_json` wrote; without ``relation`` and ``group_size``, as it once did, one record is added or removed.

        Raises InvalidInput where it is no event.
        """
        try:
            mechanism, steps = str(value["type"]), int(value["steps"])
            relation, group_size = str(value.get("relation", RELATIONS[0])), int(value.get("group_size", 1))
            if mechanism != "repeat_and_select":
                known = float(value["noise_multiplier"]), float(value["sampling_rate"]), steps, relation, group_size
                return cls(mechanism, *known, shift=float(value.get("shift", 0.0)))
            shape = math.inf if value["shape"] == "poisson" else float(value["shape"])
            repeated = tuple(cls.from_json(event) for event in value["repeated"])
            return cls(mechanism, 0.0, 1.0, steps, relation, group_size, repeated, float(value["mean"]), shape)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"A privacy event cannot be read: {type(error).__name__}.") from error


def repeat_and_select(events: Iterable[Event], *, mean: float, shape: float = math.inf) -> Event:
    """The event of running `events` a random number of times and publishing the best outcome only (Papernot and Steinke 2022).

    The number of repetitions must be drawn from the distribution, independently of the data, and the choice among the outcomes may depend
    on nothing but what was released. It has a bound by RDP only, and so has everything that it is composed with.

    Parameters
    ----------
    events
        What each repetition releases.
    mean
        The expected number of repetitions.
    shape
        ``math.inf`` for a Poisson distribution, which may give no repetition at all; 1 for a geometric one, 0 for a logarithmic one; between
        and above them the negative binomial distribution, truncated at one.
    """
    repeated = tuple(events)
    if not repeated:
        raise UsageError("A repetition needs a mechanism to repeat.")
    first = repeated[0]
    return Event("repeat_and_select", 0.0, 1.0, 1, first.relation, first.group_size, repeated, mean, shape)


def merge(events: Iterable[Event]) -> tuple[Event, ...]:
    """The same events in canonical order and under one neighbour relation: equal ones as one with more steps, Gaussians as one of the same loss.

    Events with different neighbours are all seen by the widest: the largest group, and replacement where any says so. It costs each of them
    at least as much, because a record replaced by one that contributes nothing is a record removed.

    n unsampled Gaussian mechanisms with multipliers σᵢ are exactly one with 1/σ² = Σ 1/σᵢ².
    """
    given = [event for event in events if event.steps]
    if not given:
        return ()
    relation = RELATIONS[max(RELATIONS.index(event.relation) for event in given)]
    group_size = max(event.group_size for event in given)
    steps: dict[Event, int] = defaultdict(int)
    precision = 0.0
    for event in given:
        if event.mechanism == "gaussian" and event.sampling_rate == 1:
            precision += event.steps / event.noise_multiplier**2
        else:
            steps[replace(event.under(relation, group_size), steps=1)] += event.steps
    merged = [replace(event, steps=count) for event, count in sorted(steps.items(), key=lambda item: repr(item[0]))]
    if precision:
        merged.append(Event("gaussian", precision**-0.5, 1.0, 1, relation, group_size))
    return tuple(merged)


def scale(event: Event) -> float:
    """Largest change of the sum that the noise hides, in bounds C of one record: the group's size, twice that where it is replaced."""
    return event.group_size * (2 if event.relation == "replace-one" else 1)
