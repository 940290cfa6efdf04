"""Does a private training's statement give the ε that its own events cost? It is computed again, by `affidavit_governance.audit.recount`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from affidavit.errors import IntegrityError
from affidavit_governance.audit.losses import Mechanism, NotRecomputedError
from affidavit_governance.audit.recount import bracket, least

VERSION = 1
"""The newest version that is read. Statements of before version 1 have no number, and say less."""

SLACK = 1e-9
"""By so much a stated ε may lie below the bracket, relatively: it went through decimal digits."""

UNITS = ("record", "group", "user", "label")

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
    if "events" not in said and version == 0:
        return {"bracket": None, "remark": "the statement lists no events"}
    stated, delta = _number(said.get("epsilon"), what), _number(said.get("delta"), what)
    if delta >= 1:
        raise IntegrityError(f"{what} states a delta of {delta:g}, which is no probability below 1.")
    events, reason = _read(said.get("events"), what)
    if version >= 1:
        _check_neighbours(said, events, what)
        _check_steps(said, events, what)
        if said.get("status") == "done" and reason is None and not any(event.steps for event in events):
            raise IntegrityError(f"{what} states an epsilon for a private training that released nothing.")
    found = None
    try:
        # Events that cannot be read cost something: without them there is no upper bound, and what the others cost is still the least.
        found = bracket(events, delta) if reason is None else None
    except NotRecomputedError as error:
        reason = str(error)
    low = least(events, delta) if found is None else found.low
    if stated < low * (1 - SLACK) - SLACK:
        raise IntegrityError(
            f"{what} states epsilon {stated:.6g} at delta {delta:g}, and its own events cost at least {low:.6g}: "
            "it claims more privacy than they give.",
            hint="Do not rely on this training's privacy; ask the workspace's owner.",
        )
    if found is None:
        return {"bracket": None, "remark": reason}
    above = stated > found.high * (1 + LOOSE) + LEAST_LOOSE
    return {"bracket": [found.low, found.high], "remark": "stated higher than the events cost" if above else None}


def _read(value: Any, what: str) -> tuple[list[Mechanism], str | None]:
    """The events that have a loss distribution, and why not all of them have, where that is so."""
    events, reason = [], None
    try:
        for event in value:
            try:
                events.append(Mechanism.read(event))
            except NotRecomputedError as error:
                reason = str(error)
    except (TypeError, ValueError, OverflowError):
        raise IntegrityError(f"{what} states an epsilon with events that cannot be read.") from None
    return events, reason


def _number(value: Any, what: str) -> float:
    number = math.inf if value == "Infinity" else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
        raise IntegrityError(f"{what} states no epsilon and delta that are numbers.")
    return float(number)


def _check_neighbours(said: Mapping[str, Any], events: list[Mechanism], what: str) -> None:
    unit, relation, members = said.get("unit"), said.get("relation"), said.get("unit_records")
    if unit not in UNITS or any((event.relation, event.members) != (relation, members) for event in events):
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
