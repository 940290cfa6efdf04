"""The ledger of spending: reserve before anything is released, commit what really ran.

A run reserves before it releases anything, replaces its reservation as it learns what it will release, and commits what really ran. A
reservation that nobody settled, because the process died, goes on counting. Everything on one data set is composed jointly by PLD, over
the recorded mechanisms, not by adding up epsilons.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.interfaces.governance import JSON
from affidavit_governance.privacy.accounting import Event, calibrate, joint_epsilon
from affidavit_governance.privacy.budget.advice import what_fits
from affidavit_governance.privacy.budget.tables import UPGRADES, VERSION, metadata
from affidavit_governance.privacy.budget.tables import spending as table

if TYPE_CHECKING:
    from affidavit.store import Store

MICRO = 1_000_000
LARGEST = 1e6
Row = sa.Row[tuple[str, ...]]
Expected = Callable[[], Sequence[Event]]


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call has set aside and not settled.

    Attributes
    ----------
    roots
        Fingerprints of the data sets that it is charged to.
    events
        The mechanisms.
    epsilon
        ε of these mechanisms alone, at `delta`.
    since
        When it last changed; UTC, ISO 8601.
    continues
        The killed call that this one goes on with, or None.
    """

    call: str
    roots: tuple[str, ...]
    events: tuple[Event, ...]
    epsilon: float
    delta: float
    since: str
    continues: str | None


class Budget:
    """The privacy spent on each root data set of one workspace.

    Parameters
    ----------
    store
        The workspace's storage. Every change is one serialised transaction, so that processes cannot overspend together.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        store.ensure(metadata, "privacy", VERSION, UPGRADES)

    # -- the life of a reservation --------------------------------------------------------------------------------------------------

    def reserve(
        self, call: str, roots: Iterable[str], events: Sequence[Event], *, delta: float, limit: float, expected: Expected | None = None
    ) -> None:
        """Set aside what `call` is going to release on `roots`, in place of what it set aside before.

        Parameters
        ----------
        roots
            Fingerprints of the root data sets that the rows came from; each is charged.
        limit
            The ε that each of them may spend in its life at `delta`.
        expected
            Gives what the run is expected to do where `events` only keep its place; a refusal asks it, to name the σ and steps that would fit.

        Raises
        ------
        Refused
            Together with everything recorded for a root, also by calls that are not settled, it would cost more than `limit`. The message
            says what is left, and what would fit.
        UsageError
            The limit is no positive number up to a million.
        IntegrityError
            The call was settled, by itself or by another hand, or goes on with a run on other data.
        """
        if not 0 < limit <= LARGEST:
            raise UsageError(f"A privacy budget of {limit} cannot be kept.", hint=f"It must be above 0 and at most {LARGEST:g}.")
        names = sorted(roots)
        while True:
            with self._store.read() as connection:
                others = _others(connection, call, names)
            # Composition takes up to a second: it runs outside the transaction, which then holds only if nothing was added meanwhile.
            for root in names:
                _check(root, others[root], events, delta, limit, expected)
            changed = _values("reserved", events, delta=delta, limit=limit)
            with self._store.write() as connection:
                if _others(connection, call, names) != others:
                    continue
                before = _rows_of(connection, call)
                _check_own(call, before, names)
                connection.execute(table.delete().where(table.c.call == call))
                kept = {"continues": before[0].continues, "carried": before[0].carried} if before else {"continues": None, "carried": None}
                connection.execute(table.insert(), [{"call": call, "root": root, **changed, **kept} for root in names])
                return

    def commit(self, call: str, events: Sequence[Event]) -> None:
        """Put what really ran in the place of what `call` set aside. It is never refused: what is spent is spent.

        Raises
        ------
        IntegrityError
            The call has nothing set aside.
        """
        held = self._held(call)
        written = _settled(events, held.delta)
        with self._store.write() as connection:
            _write(connection, held, written)

    def release(self, call: str) -> None:
        """Give back what `call` set aside. Only for a call that released nothing.

        A call that goes on with a killed one keeps what that one had set aside, unsettled: its steps were taken.
        """
        with self._store.write() as connection:
            connection.execute(table.delete().where(table.c.call == call, table.c.state == "reserved", table.c.carried.is_(None)))
            for row in _rows_of(connection, call):
                if row.state == "reserved":
                    alone = _micro(joint_epsilon(_events([row.carried]), float(row.delta)))
                    own = (table.c.call == call) & (table.c.root == row.root)
                    connection.execute(table.update().where(own).values(events=row.carried, epsilon_micro=alone, changed=_now()))

    def settle(
        self, call: str, executed: Sequence[Event] | None = None, *, nothing_ran: bool = False, connection: sa.Connection | None = None
    ) -> None:
        """Settle what a dead process left reserved: as reserved, or as `executed` where it is known what ran.

        Use `affidavit_governance.privacy.budget.settle`, which looks into the ledger for what ran and leaves evidence.

        Parameters
        ----------
        executed
            What ran; it must lie within what was set aside, and holds for a call that goes on with a killed one only if the steps of both
            are in it.
        nothing_ran
            Give the reservation back. The only way to spend less than what may have run; it is refused for a call that goes on with another.
        connection
            An open write transaction to take part in.

        Raises
        ------
        IntegrityError
            The call has nothing set aside, or more ran than was set aside.
        """
        if connection is None:
            with self._store.write() as own:
                self.settle(call, executed, nothing_ran=nothing_ran, connection=own)
            return
        held = _reservation(_rows_of(connection, call), call)
        if executed is not None and not _within(executed, held.events):
            raise IntegrityError(f"More ran in call {call} than it had set aside.", hint="Settle it as reserved and look into the run.")
        if nothing_ran and (held.continues or executed):
            raise IntegrityError(f"Call {call} cannot be settled as if nothing had run: steps were taken.")

        if nothing_ran:
            connection.execute(table.delete().where(table.c.call == call, table.c.state == "reserved"))
        else:
            _write(connection, held, _settled(held.events if executed is None else executed, held.delta))

    def adopt(self, old: str, new: str) -> Reservation:
        """Hand the reservation of the killed call `old` to `new`, which goes on with its run; both or neither, in one transaction.

        The privacy stays reserved throughout. From now on `old` has nothing to settle, and `new` cannot give back what `old` had set
        aside (see `release`): its own reservation has to hold the steps of both.

        Raises
        ------
        IntegrityError
            `old` has nothing set aside (another process may have adopted or settled it), or `new` has.
        """
        with self._store.write() as connection:
            held = _reservation(_rows_of(connection, old), old)
            if _rows_of(connection, new):
                raise IntegrityError(f"Call {new} has a reservation of its own and cannot go on with call {old}.")
            changed = {"call": new, "continues": old, "carried": table.c.events, "changed": _now()}
            connection.execute(table.update().where(table.c.call == old).values(changed))
            return _reservation(_rows_of(connection, new), held.call)

    def _held(self, call: str) -> Reservation:
        with self._store.read() as connection:
            return _reservation(_rows_of(connection, call), call)

    # -- looking --------------------------------------------------------------------------------------------------------------------

    def spent(self, root: str, delta: float) -> float:
        """ε at `delta` of everything recorded for `root`, settled or not."""
        with self._store.read() as connection:
            return joint_epsilon(_events(_others(connection, "", [root])[root]), delta)

    def with_runs(
        self, roots: Iterable[str], epsilons: Sequence[float], *, delta: float, relation: str = "add-or-remove-one", group_size: int = 1
    ) -> float:
        """ε at `delta` that the fullest of `roots` would have spent after one more run for each of `epsilons`, of the neighbours named.

        A run's mechanisms are not known beforehand; each is taken as one Gaussian mechanism of its ε, which is what keeps its place.
        """
        sigmas = [calibrate(each, sampling_rate=1.0, steps=1, delta=delta, relation=relation, group_size=group_size) for each in epsilons]
        runs = [Event("gaussian", sigma, 1.0, 1, relation, group_size) for sigma in sigmas]
        names = sorted(roots)
        with self._store.read() as connection:
            recorded = _others(connection, "", names)
        return max(joint_epsilon([*_events(recorded[root]), *runs], delta) for root in names)

    def unsettled(self) -> list[Reservation]:
        """The reservations that nobody settled, oldest first: of runs under way, and of processes that died."""
        with self._store.read() as connection:
            rows = connection.execute(sa.select(table).where(table.c.state == "reserved").order_by(table.c.changed, table.c.call)).all()
        calls = dict.fromkeys(row.call for row in rows)
        return [_reservation([row for row in rows if row.call == call], call) for call in calls]

    def status(self) -> list[dict[str, JSON]]:
        """One row for each data set that was ever trained on privately.

        Returns
        -------
        list
            ``root`` (fingerprint), ``spent`` (ε of settled runs), ``reserved`` (what unsettled ones add), ``limit`` and ``delta`` (of the
            latest policy), ``left``, ``runs`` (settled), ``unsettled`` and ``unsettled_calls``.
        """
        return [_summary(root, rows) for root, rows in sorted(self._by_root().items())]

    def history(self) -> list[dict[str, JSON]]:
        """What each call added, in the order of time.

        Returns
        -------
        list
            ``root``, ``time`` (UTC, ISO 8601), ``call``, ``settled``, ``epsilon`` (of the call alone), ``spent`` (joint ε of everything up to
            and with it, at the latest policy's δ) and ``limit`` (under which it was charged).
        """
        found = []
        for root, rows in sorted(self._by_root().items()):
            delta = float(rows[-1].delta)
            for number, row in enumerate(rows, start=1):
                total = joint_epsilon(_events(earlier.events for earlier in rows[:number]), delta)
                said = {"settled": row.state == "committed", "epsilon": row.epsilon_micro / MICRO, "limit": row.limit_micro / MICRO}
                found.append({"root": root, "time": row.changed, "call": row.call, **said, "spent": _micro(total) / MICRO})
        return found

    def _by_root(self) -> dict[str, list[Row]]:
        with self._store.read() as connection:
            rows = connection.execute(sa.select(table).order_by(table.c.changed, table.c.call)).all()
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row.root, []).append(row)
        return found


def _summary(root: str, rows: Sequence[Row]) -> dict[str, JSON]:
    latest = rows[-1]
    delta = float(latest.delta)
    settled = [row for row in rows if row.state == "committed"]
    spent = _micro(joint_epsilon(_events(row.events for row in settled), delta))
    everything = _micro(joint_epsilon(_events(row.events for row in rows), delta))
    open_calls = [row.call for row in rows if row.state == "reserved"]
    return {
        "root": root,
        "spent": spent / MICRO,
        "reserved": (everything - spent) / MICRO,
        "limit": latest.limit_micro / MICRO,
        "left": max(0, latest.limit_micro - everything) / MICRO,
        "delta": delta,
        "runs": len(settled),
        "unsettled": len(open_calls),
        "unsettled_calls": open_calls,
    }


def _others(connection: sa.Connection, call: str, roots: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The recorded events of every other call, by root, in a fixed order."""
    query = sa.select(table.c.root, table.c.events).where(table.c.call != call, table.c.root.in_(roots)).order_by(table.c.call)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(roots, ())
    for root, events in connection.execute(query):
        found[root] += (events,)
    return found


def _rows_of(connection: sa.Connection, call: str) -> Sequence[Row]:
    return connection.execute(sa.select(table).where(table.c.call == call).order_by(table.c.root)).all()


def _check_own(call: str, before: Sequence[Row], roots: Sequence[str]) -> None:
    if any(row.state == "committed" for row in before):
        raise IntegrityError(f"Call {call} was settled and can set nothing more aside.", hint="Start another run.")
    if any(row.carried for row in before) and [row.root for row in before] != list(roots):
        raise IntegrityError(f"Call {call} goes on with a run on other data.", hint="Resume with the data set that the run began with.")


def _reservation(rows: Sequence[Row], call: str) -> Reservation:
    if not rows or any(row.state == "committed" for row in rows):
        raise IntegrityError(f"Call {call} has no privacy budget set aside.", hint="It was never reserved, was settled, or was handed on.")
    first = rows[0]
    events, alone = tuple(_events([first.events])), first.epsilon_micro / MICRO
    return Reservation(first.call, tuple(row.root for row in rows), events, alone, float(first.delta), first.changed, first.continues)


def _within(executed: Sequence[Event], reserved: Sequence[Event]) -> bool:
    """Whether each mechanism ran at most as often as was set aside."""
    left = _steps(reserved)
    return all(steps <= left.get(mechanism, 0) for mechanism, steps in _steps(executed).items())


def _steps(events: Iterable[Event]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in events:
        mechanism = json.dumps({**event.to_json(), "steps": 1}, sort_keys=True)
        counts[mechanism] = counts.get(mechanism, 0) + event.steps
    return counts


def _events(recorded: Iterable[str]) -> list[Event]:
    return [Event.from_json(value) for text in recorded for value in json.loads(text)]


def _text(events: Iterable[Event]) -> str:
    return json.dumps([event.to_json() for event in events])


def _values(state: str, events: Sequence[Event], *, delta: float, limit: float) -> dict[str, JSON]:
    alone = _micro(joint_epsilon(events, delta))
    return {
        "state": state,
        "epsilon_micro": alone,
        "delta": repr(delta),
        "limit_micro": round(limit * MICRO),
        "events": _text(events),
        "changed": _now(),
    }


def _settled(events: Sequence[Event], delta: float) -> dict[str, JSON]:
    return {"state": "committed", "events": _text(events), "changed": _now(), "epsilon_micro": _micro(joint_epsilon(events, delta))}


def _write(connection: sa.Connection, held: Reservation, written: dict[str, JSON]) -> None:
    own = (table.c.call == held.call) & (table.c.state == "reserved")
    if connection.execute(table.update().where(own).values(written)).rowcount != len(held.roots):
        raise IntegrityError(f"The reservation of call {held.call} was settled by another hand meanwhile.")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _micro(epsilon: float) -> int:
    """ε in millionths, rounded up."""
    return math.ceil(epsilon * MICRO)


def _check(root: str, others: tuple[str, ...], events: Sequence[Event], delta: float, limit: float, expected: Expected | None) -> None:
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
        satisfy=what_fits(before, (expected() if expected else None) or events, delta=delta, limit=limit),
    )
