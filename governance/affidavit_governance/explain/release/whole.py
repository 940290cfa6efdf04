"""What leaves of a description of the model as a whole, where explanations of single rows may not leave whole."""

from __future__ import annotations

from dataclasses import replace

from affidavit.errors import Refused
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.policy import ExplainPolicy

LEAST_ROWS = 30
"""Rows that a mean must be over; the mean |φ| of one row is its |φ|."""


def released_whole(record: GlobalExplanation, policy: ExplainPolicy) -> GlobalExplanation:
    """The description without curves and details of single rows. Nothing changes under the release ``full``.

    Means over two sets of rows that differ in one row still give that row: no release keeps means apart from their differences.

    Raises
    ------
    Refused
        It is over fewer than 30 rows.
    """
    if policy.release == "full":
        return record
    if record.rows < LEAST_ROWS:
        raise Refused(
            f"A description of the model over {record.rows} rows would tell what is withheld of explanations of single rows.",
            by="policy",
            line="explain.release",
            measured=record.rows,
            bound=LEAST_ROWS,
            satisfy=f"Describe the model over {LEAST_ROWS} rows or more.",
        )
    curves = {name: {column: values for column, values in curve.items() if column != "ice"} for name, curve in record.curves.items()}
    details = {name: value for name, value in record.details.items() if not (isinstance(value, list) and len(value) == record.rows)}
    return replace(record, curves=curves, details=details)
