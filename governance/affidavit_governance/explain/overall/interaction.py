"""Friedman's H: how much of what two players do together is more than what each does alone. Arrays in, arrays out.

Source: Friedman, Popescu 2008, "Predictive learning via rule ensembles", section 8.1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from affidavit.interfaces.model import Metric
from affidavit_governance.explain.quality.intervals import ratio_of_means

Floats = NDArray[np.float64]
Dependence = Callable[[tuple[int, ...]], Floats]
"""The partial dependence on some players at the rows' own values: one number a row."""


_NOTHING = 1e-12
"""A dependence that varies by less than this share of its size is rounding."""


def interaction_strength(dependence: Dependence, first: int, second: int) -> Metric | None:
    """H between 0 (the two add up) and 1 (all of it is interaction), with a 95 % interval over rows; None where the two have no effect.

    The three dependences must rest on the same rows: then an additive model has an H of zero whatever the rows are.
    """
    raw = [dependence(players) for players in ((first,), (second,), (first, second))]
    one, other, both = (_centred(values) for values in raw)
    if float(abs(both).max(initial=0.0)) <= _NOTHING * max(float(abs(values).max(initial=0.0)) for values in raw):
        return None
    share = ratio_of_means(np.square(both - one - other), np.square(both))
    low, high = (None if end is None else float(np.sqrt(max(0.0, end))) for end in (share.low, share.high))
    return Metric(float(np.sqrt(share.value)), low, high)


def _centred(values: Floats) -> Floats:
    centred: Floats = values - values.mean()
    return centred
