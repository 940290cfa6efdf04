"""The budget's table, version 2; version 1 knew no resumed runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

VERSION = 2

metadata = sa.MetaData()

spending = sa.Table(
    "privacy_spending",
    metadata,
    sa.Column("call", sa.Text, primary_key=True),
    sa.Column("root", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # reserved, committed
    sa.Column("epsilon_micro", sa.BigInteger, nullable=False),  # of this run alone
    sa.Column("delta", sa.Text, nullable=False),  # shortest decimal form, exact
    sa.Column("limit_micro", sa.BigInteger, nullable=False),
    sa.Column("events", sa.Text, nullable=False),  # JSON list, see Event.to_json
    sa.Column("changed", sa.Text, nullable=False),  # UTC, ISO 8601
    sa.Column("continues", sa.Text, nullable=True),  # the killed call that this one goes on with
    sa.Column("carried", sa.Text, nullable=True),  # what that call had set aside, as in `events`
)


def _add_resumed_runs(connection: sa.Connection) -> None:
    for column in ("continues", "carried"):
        connection.exec_driver_sql(f"ALTER TABLE privacy_spending ADD COLUMN {column} TEXT")


UPGRADES: Mapping[int, Callable[[sa.Connection], None]] = {1: _add_resumed_runs}
