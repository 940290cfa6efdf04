"""What each data set has spent of its privacy, across runs, processes and crashes.

A run reserves before it releases anything, replaces its reservation as it learns what it will release, and commits what really ran. A
reservation that nobody settled, because the process died, goes on counting. Everything on one data set is composed jointly by PLD, over
the recorded mechanisms, not by adding up epsilons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from affidavit.errors import IntegrityError, Refused
from affidavit.interfaces.governance import JSON
from affidavit_governance.privacy.accounting import Event, calibrate, joint_epsilon

if TYPE_CHECKING:
    from affidavit.store import Store

MICRO = 1_000_000
_metadata = sa.MetaData()
_spending = sa.Table(
    "privacy_spending",
    _metadata,
    sa.Column("call", sa.Text, primary_key=True),
    sa.Column("root", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # reserved, committed
    sa.Column("epsilon_micro", sa.BigInteger, nullable=False),  # of this run alone
    sa.Column("delta", sa.Text, nullable=False),  # shortest decimal form, exact
    sa.Column("limit_micro", sa.BigInteger, nullable=False),
    sa.Column("events", sa.Text, nullable=False),  # JSON list, see Event.to_json
    sa.Column("changed", sa.Text, nullable=False),  # UTC, ISO 8601
)


class Budget:
    """The privacy spent on each root data set of one workspace.

    Parameters
    ----------
    store
        The workspace's storage. Every change is one serialised transaction, so that processes cannot overspend together.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        store.ensure(_metadata, "privacy", 1)

    def reserve(self, call: str, roots: Iterable[str], events: Sequence[Event], *, delta: float, limit: float) -> None:
        """Set aside what `call` is going to release on `roots`, in place of what it set aside before.

        Parameters
        ----------
        roots
            Fingerprints of the root data sets that the rows came from; each is charged.
        limit
            The ε that each of them may spend in its life at `delta`.

        Raises
        ------
        Refused
            Together with everything recorded for a root, also by calls that are not settled, it would cost more than `limit`.
        """
        names = sorted(roots)
        while True:
            with self._store.read() as connection:
                others = _others(connection, call, names)
            # Composition takes up to a second: it runs outside the transaction, which then holds only if nothing was added meanwhile.
            for root in names:
                _check(root, others[root], events, delta, limit)
            rows = [_row(call, root, "reserved", events, delta=delta, limit=limit) for root in names]
            with self._store.write() as connection:
                if _others(connection, call, names) == others:
                    connection.execute(_spending.delete().where(_spending.c.call == call, _spending.c.state == "reserved"))
                    connection.execute(_spending.insert(), rows)
                    return

    def commit(self, call: str, events: Sequence[Event]) -> None:
        """Put what really ran in the place of what `call` set aside. It is never refused: what is spent is spent."""
        with self._store.read() as connection:
            reserved = connection.execute(sa.select(_spending).where(_spending.c.call == call, _spending.c.state == "reserved")).all()
        rows = [_row(call, row.root, "committed", events, delta=float(row.delta), limit=row.limit_micro / MICRO) for row in reserved]
        if not rows:
            raise IntegrityError(f"Call {call} has no privacy budget set aside that it could spend.")
        with self._store.write() as connection:
            connection.execute(_spending.delete().where(_spending.c.call == call))
            connection.execute(_spending.insert(), rows)

    def release(self, call: str) -> None:
        """Give back what `call` set aside. Only for a call that released nothing."""
        with self._store.write() as connection:
            connection.execute(_spending.delete().where(_spending.c.call == call, _spending.c.state == "reserved"))

    def spent(self, root: str, delta: float) -> float:
        """ε at `delta` of everything recorded for `root`, settled or not."""
        with self._store.read() as connection:
            return joint_epsilon(_events(_others(connection, "", [root])[root]), delta)

    def status(self) -> list[dict[str, JSON]]:
        """One row for each data set that was ever trained on privately.

        Returns
        -------
        list
            ``root`` (fingerprint), ``spent`` (ε of settled runs), ``reserved`` (what unsettled ones add), ``limit`` and ``delta`` (of the
            latest policy), ``left``, ``runs`` (settled), ``unsettled``.
        """
        with self._store.read() as connection:
            rows = connection.execute(sa.select(_spending).order_by(_spending.c.changed, _spending.c.call)).all()
        by_root: dict[str, list[sa.Row[tuple[str, ...]]]] = {}
        for row in rows:
            by_root.setdefault(row.root, []).append(row)
        return [_summary(root, found) for root, found in sorted(by_root.items())]


def _summary(root: str, rows: Sequence[sa.Row[tuple[str, ...]]]) -> dict[str, JSON]:
    latest = rows[-1]
    delta, limit = float(latest.delta), latest.limit_micro / MICRO
    settled = [row for row in rows if row.state == "committed"]
    spent = _micro(joint_epsilon(_events(row.events for row in settled), delta))
    everything = _micro(joint_epsilon(_events(row.events for row in rows), delta))
    return {
        "root": root,
        "spent": spent / MICRO,
        "reserved": (everything - spent) / MICRO,
        "limit": limit,
        "left": max(0, latest.limit_micro - everything) / MICRO,
        "delta": delta,
        "runs": len(settled),
        "unsettled": len(rows) - len(settled),
    }


def _others(connection: sa.Connection, call: str, roots: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The recorded events of every other call, by root, in a fixed order."""
    query = sa.select(_spending.c.root, _spending.c.events).where(_spending.c.call != call, _spending.c.root.in_(roots)).order_by(_spending.c.call)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(roots, ())
    for root, events in connection.execute(query):
        found[root] += (events,)
    return found


def _events(recorded: Iterable[str]) -> list[Event]:
    return [Event.from_json(value) for text in recorded for value in json.loads(text)]


def _row(call: str, root: str, state: str, events: Sequence[Event], *, delta: float, limit: float) -> Mapping[str, JSON]:
    return {
        "call": call,
        "root": root,
        "state": state,
        "epsilon_micro": _micro(joint_epsilon(events, delta)),
        "delta": repr(delta),
        "limit_micro": round(limit * MICRO),
        "events": json.dumps([event.to_json() for event in events]),
        "changed": datetime.now(UTC).isoformat(),
    }


def _micro(epsilon: float) -> int:
    """ε in millionths, rounded up."""
    return math.ceil(epsilon * MICRO)


def _check(root: str, others: tuple[str, ...], events: Sequence[Event], delta: float, limit: float) -> None:
    before = _events(others)
    total = joint_epsilon([*before, *events], delta)
    if _micro(total) <= round(limit * MICRO):
        return
    spent = joint_epsilon(before, delta)
    raise Refused(
        f"Data set {root[:12]} has spent epsilon {spent:.4g} of {limit:g} at delta {delta:g}; with this run it would be {total:.4g}.",
        by="budget",
        line="privacy.dataset_budget",
        measured=round(total, 6),
        bound=limit,
        satisfy=_what_fits(before, spent, delta, limit),
    )


def _what_fits(before: Sequence[Event], spent: float, delta: float, limit: float) -> str:
    """The largest ε, in hundredths, that one more run could have; composition is joint, so this is more than limit minus spent."""
    if spent < limit * 0.999:
        sigma = calibrate(limit, sampling_rate=1.0, steps=1, delta=delta, extra=before)
        fits = math.floor(joint_epsilon([Event("gaussian", sigma)], delta) * 100) / 100
        if fits > 0:
            return f"{max(0.0, limit - spent):.4g} is left; composed jointly, a run with privacy.epsilon = {fits:g} would fit."
    return "Nothing is left: use other data, or raise the budget and say why."
