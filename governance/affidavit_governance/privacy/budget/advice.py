"""What a refusal says would fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from affidavit.errors import UsageError
from affidavit_governance.privacy.accounting import Event, calibrate, joint_epsilon

NOTHING = "Nothing is left: use other data, or raise the budget and say why."


def what_fits(before: Sequence[Event], events: Sequence[Event], *, delta: float, limit: float) -> str:
    """In words: how much is left, which ε one more run could have, and which σ or number of steps a run like `events` could have.

    Parameters
    ----------
    before
        What is recorded on the data set.
    events
        The refused run; its sampled mechanism is the one whose σ and steps are looked for.
    """
    epsilon = epsilon_that_fits(before, delta=delta, limit=limit)
    if epsilon <= 0:
        return NOTHING
    left = max(0.0, limit - joint_epsilon(before, delta))
    text = f"{left:.4g} is left; composed jointly, a run with privacy.epsilon = {epsilon:g} would fit"
    training = [event for event in events if event.mechanism == "gaussian" and event.steps > 1]
    if len(training) == 1:
        text += _like(training[0], [event for event in events if event is not training[0]], epsilon, delta)
    return f"{text}."


def epsilon_that_fits(before: Sequence[Event], *, delta: float, limit: float) -> float:
    """The largest ε, in whole hundredths, of one more run; composition is joint, so this is more than limit minus spent. 0 where nothing fits.

    It is that of a single Gaussian mechanism, which is what keeps a run's place until its own mechanisms are known.
    """
    if joint_epsilon(before, delta) >= limit * 0.999:
        return 0.0
    sigma = calibrate(limit, sampling_rate=1.0, steps=1, delta=delta, extra=before)
    return math.floor(joint_epsilon([Event("gaussian", sigma)], delta) * 100) / 100


def _like(training: Event, others: Sequence[Event], epsilon: float, delta: float) -> str:
    """The σ and the steps with which a run like the refused one has `epsilon`."""
    text = f": at this run's sampling rate {training.sampling_rate:.4g}"
    try:
        sigma = calibrate(epsilon, sampling_rate=training.sampling_rate, steps=training.steps, delta=delta, extra=others)
    except UsageError:  # the run's statistics alone cost more than that
        return ""
    text += f" a noise multiplier of {math.ceil(sigma * 1000) / 1000:.4g} for its {training.steps} steps"
    steps = _most_steps(training, others, epsilon, delta)
    return f"{text}, or at its {training.noise_multiplier:.4g} no more than {steps} steps" if steps else text


def _most_steps(training: Event, others: Sequence[Event], epsilon: float, delta: float) -> int:
    """How many steps of `training` cost at most `epsilon` together with `others`."""
    low, high = 0, training.steps
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        if joint_epsilon([*others, replace(training, steps=middle)], delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low
