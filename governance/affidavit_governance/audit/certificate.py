"""Does a private training's statement give the ε that its own events cost? It is computed again, by `affidavit_governance.audit.recount`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from affidavit.errors import IntegrityError
from affidavit_governance.audit.losses import Mechanism, NotRecomputedError
from affidavit_governance.audit.recount import bracket

VERSION = 1
"""The newest version that is read. Statements of before version 1 have no number, and say less."""

SLACK = 1e-9
"""By so much a stated ε may lie below the bracket, relatively: it went through decimal digits."""

LOOSE, LEAST_LOOSE = 0.05, 0.01
"""By so much it may lie above before that is remarked upon, relatively or in itself: the accountant's grid rounds up."""


def recompute(said: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Check the ε of a privacy statement, and say what came out.

    Parameters
    ----------
    said
        What the PRIVACY stage stated, or its like: ``epsilon``, ``delta``, ``events``.
    what
        The entry's name, for messages.

    Returns
    -------
    dict
        ``bracket`` ([low, high], or None), and ``remark`` (why there is none, or that ε is stated higher than it is; else None).

    Raises
    ------
    IntegrityError
        The stated ε is below what the events cost at the least, or the statement contradicts itself.
    """
    if said.get("private") is False:
        if said.get("epsilon") is not None:
            raise IntegrityError(f"{what} states an epsilon for a training that it says was not private.")
        return {"bracket": None, "remark": "training without noise, which claims no privacy"}
    version = said.get("certificate", 0)
    if type(version) is not int or not 0 <= version <= VERSION:
        return {"bracket": None, "remark": f"this Affidavit reads certificates up to version {VERSION}: pip install -U affidavit"}
    if "events" not in said:
        return {"bracket": None, "remark": "the statement lists no events"}
    stated, delta = _number(said.get("epsilon"), what), _number(said.get("delta"), what)
    try:
        events = [Mechanism.read(event) for event in said["events"]]
    except NotRecomputedError as error:
        return {"bracket": None, "remark": str(error)}
    except (TypeError, ValueError, OverflowError):
        raise IntegrityError(f"{what} states an epsilon with events that cannot be read.") from None
    if version >= 1:
        _check_neighbours(said, events, what)
        _check_steps(said, events, what)
    try:
        found = bracket(events, delta)
    except NotRecomputedError as error:
        return {"bracket": None, "remark": str(error)}
    if stated < found.low * (1 - SLACK) - SLACK:
        raise IntegrityError(
            f"{what} states epsilon {stated:.6g} at delta {delta:g}, and its own events cost at least {found.low:.6g}: "
            "it claims more privacy than they give.",
            hint="Do not rely on this training's privacy; ask the workspace's owner.",
        )
    above = stated > found.high * (1 + LOOSE) + LEAST_LOOSE
    return {"bracket": [found.low, found.high], "remark": "stated higher than the events cost" if above else None}


def _number(value: Any, what: str) -> float:
    number = math.inf if value == "Infinity" else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
        raise IntegrityError(f"{what} states no epsilon and delta that are numbers.")
    return float(number)


def _check_neighbours(said: Mapping[str, Any], events: list[Mechanism], what: str) -> None:
    unit, relation, members = said.get("unit"), said.get("relation"), said.get("unit_records")
    if any((event.relation, event.members) != (relation, members) for event in events):
        raise IntegrityError(f"{what} states a unit of privacy that its events are not about.")
    if (unit in ("record", "label") and members != 1) or (unit == "label" and relation != "replace-one"):
        raise IntegrityError(f"{what} states a unit of privacy that does not go with its neighbour relation.")


def _check_steps(said: Mapping[str, Any], events: list[Mechanism], what: str) -> None:
    """The steps that it says were taken, with the rate and noise that it says they had, are in the events."""
    steps, sampler = said.get("steps"), said.get("sampler")
    if not steps or sampler is None:
        return
    rate, noise, per_epoch = said.get("sampling_rate"), said.get("noise_multiplier"), said.get("steps_per_epoch")
    if type(steps) is not int or type(per_epoch) is not int or steps < 0 or per_epoch < 1 or sampler not in ("poisson", "shuffle"):
        raise IntegrityError(f"{what} does not say how its steps were sampled.")
    shuffled = sampler == "shuffle"
    needed = -(-steps // per_epoch) if shuffled else steps
    counted = sum(event.steps for event in events if event.kind == "gaussian" and event.noise == noise and event.rate == (1.0 if shuffled else rate))
    if counted < needed:
        raise IntegrityError(f"{what} states {steps} steps, and its events account for fewer.")
