"""What a refusal says would fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from affidavit.errors import UsageError
from affidavit_governance.privacy.accounting import Event, calibrate, calibrate_steps, joint_epsilon
from affidavit_governance.privacy.accounting.events import RELATIONS

NOTHING = "Nothing is left: use other data, or raise the budget and say why."


def what_fits(before: Sequence[Event], events: Sequence[Event], *, delta: float, limit: float) -> str:
    """In words: how much is left, which ε one more run could have, and which σ or number of steps a run like `events` could have.

    Parameters
    ----------
    before
        What is recorded on the data set.
    events
        The refused run; its repeated Gaussian mechanism is the one whose σ and steps are looked for.
    """
    widest = _widest([*before, *events])
    spent = joint_epsilon([event.under(*widest) for event in before], delta)
    trainings = [event for event in events if event.mechanism == "gaussian" and event.steps > 1]
    training = trainings[0] if len(trainings) == 1 else None
    others = [event for event in events if event is not training]
    epsilon = _epsilon(before, events[0], delta=delta, limit=limit) if spent < limit * 0.999 else 0.0
    if epsilon <= 0:
        return NOTHING
    text = f"{limit - spent:.4g} is left; composed jointly, a run with privacy.epsilon = {epsilon:g} would fit"
    if training is not None:
        text += _like(before, others, training, epsilon, delta=delta, limit=limit)
    if any((event.relation, event.group_size) != widest for event in (*before, *events)):
        text += f". All runs on a data set are composed for the widest neighbours that one of them names: {widest[0]}, {widest[1]} at a time"
    return f"{text}."


def _widest(events: Sequence[Event]) -> tuple[str, int]:
    """Relation and group size for which `events` are composed: see `merge`."""
    return max(events, key=lambda event: RELATIONS.index(event.relation)).relation, max(event.group_size for event in events)


def _epsilon(before: Sequence[Event], like: Event, *, delta: float, limit: float) -> float:
    """The largest ε, in whole hundredths, of one more run; composition is joint, so this is more than limit minus spent.

    It is that of a single Gaussian mechanism, which keeps a run's place until its own mechanisms are known. Sampled ones of the same ε
    compose with what is there at least as well, also where that is about wider neighbours.
    """
    place = Event("gaussian", 1.0, 1.0, 1, like.relation, like.group_size)
    sigma = _calibrate(place, limit, delta, before)
    return math.floor(joint_epsilon([replace(place, noise_multiplier=sigma)], delta) * 100) / 100


def _like(before: Sequence[Event], others: Sequence[Event], training: Event, epsilon: float, *, delta: float, limit: float) -> str:
    """The σ and the steps with which a run like the refused one has `epsilon`, and fits."""

    def fits(run: Event) -> bool:
        return joint_epsilon([*before, *others, run], delta) <= limit

    try:
        sigma = math.ceil(_calibrate(training, epsilon, delta, others) * 1000) / 1000
        while not fits(replace(training, noise_multiplier=sigma)):
            sigma = math.ceil(sigma * 1010) / 1000
    except UsageError:  # the run's statistics alone cost more than that
        return ""
    text = f": at this run's sampling rate {training.sampling_rate:.4g} a noise multiplier of {sigma:.3f} for its {training.steps} steps"
    try:
        steps = calibrate_steps(
            epsilon,
            sampling_rate=training.sampling_rate,
            noise_multiplier=training.noise_multiplier,
            delta=delta,
            extra=others,
            relation=training.relation,
            group_size=training.group_size,
        )
    except UsageError:  # not even one
        return text
    while steps and not fits(replace(training, steps=steps)):
        steps = steps * 99 // 100
    return f"{text}, or at its {training.noise_multiplier:.3f} at most {steps} of them" if steps else text


def _calibrate(shape: Event, epsilon: float, delta: float, extra: Sequence[Event]) -> float:
    return calibrate(
        epsilon,
        sampling_rate=shape.sampling_rate,
        steps=shape.steps,
        delta=delta,
        extra=extra,
        relation=shape.relation,
        group_size=shape.group_size,
    )
