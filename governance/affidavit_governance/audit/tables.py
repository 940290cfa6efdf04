"""The ledger's tables, version 1."""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 1
HEAD = "head"

metadata = sa.MetaData()

leaves = sa.Table(
    "ledger_leaves",
    metadata,
    sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
"""Each entry: its index, its leaf data, and its evidence (a DSSE envelope) sealed under its index."""

checkpoints = sa.Table(
    "ledger_checkpoints",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("note", sa.LargeBinary, nullable=False),
)
"""Signed checkpoints: ``head`` is of the present state, the others were handed out in bundles."""

open_calls = sa.Table(
    "ledger_open_calls",
    metadata,
    sa.Column("call", sa.Text, primary_key=True),
    sa.Column("idx", sa.BigInteger, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
)
"""Calls with an intent and no outcome yet: the intent's index, and the session that is making the call."""

journals = sa.Table(
    "ledger_journals",
    metadata,
    sa.Column("journal", sa.Text, primary_key=True),
    sa.Column("segments", sa.BigInteger, nullable=False),
    sa.Column("last", sa.BigInteger, nullable=False),
    sa.Column("chain", sa.Text, nullable=False),
)
"""How far each prediction journal is sealed: number of segments, last counter, and the chain after it."""
