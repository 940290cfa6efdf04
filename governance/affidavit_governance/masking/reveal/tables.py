"""The tables of the vault and of subject keys, version 1 of each."""

from __future__ import annotations

import sqlalchemy as sa

VERSION = 1
CHUNK = 4096
"""Rows a query: below the 32,766 parameters that SQLite takes, and few enough that a write lock is held for a moment only."""

subject_metadata = sa.MetaData()

subject_keys = sa.Table(
    "masking_subject_keys",
    subject_metadata,
    sa.Column("name", sa.LargeBinary, primary_key=True),  # keyed hash of the subject's id
    sa.Column("sealed", sa.LargeBinary, nullable=True),  # the key; NULL once it was destroyed
    sa.Column("destroyed", sa.Text, nullable=True),  # when, UTC
)
"""One row a subject. What is left of a destroyed key is its row, so that the key is never made again."""

vault_metadata = sa.MetaData()

vault = sa.Table(
    "masking_vault",
    vault_metadata,
    sa.Column("token", sa.LargeBinary, primary_key=True),
    sa.Column("lookup", sa.LargeBinary, nullable=True, unique=True),  # keyed hash of namespace, subject and value; NULL once shredded
    sa.Column("subject", sa.LargeBinary, nullable=True, index=True),  # the subject's name in `subject_keys`, where it has one
    sa.Column("sealed", sa.LargeBinary, nullable=True),  # the value; NULL once shredded
)
"""One row a value."""
