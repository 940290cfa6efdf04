"""The gate before masked data are handed out: what the policy's ``masking.release`` asks of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from affidavit.errors import InvalidInput, Refused, UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.frames import as_table
from affidavit.policy import MaskingPolicy, ReleaseRule
from affidavit_governance.masking.anonymity.classes import equivalence_classes, one_class
from affidavit_governance.masking.anonymity.measures import TOLERANCE, Measure, k_of, l_of, t_of
from affidavit_governance.masking.anonymity.mondrian import Anonymised, anonymise


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """What was measured before a release that was let through.

    Attributes
    ----------
    quasi_identifiers, sensitive
        The columns that were looked at; those that masking dropped are not among them.
    rows, classes
        Of the table.
    k, l, t, risk
        The measured values; None where the policy sets no bound. `k` is always measured.
    """

    quasi_identifiers: tuple[str, ...]
    sensitive: tuple[str, ...]
    rows: int
    classes: int
    k: int
    l: int | None = None  # noqa: E741 - the measure's published name
    t: float | None = None
    risk: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON; it holds no values."""
        return {name: list(value) if isinstance(value, tuple) else value for name in self.__slots__ if (value := getattr(self, name)) is not None}


def check_release(data: Any, policy: MaskingPolicy) -> ReleaseReport | None:
    """Measure masked data against ``masking.release``; None where the policy has no such line.

    Only the quasi-identifiers and sensitive columns are read, one at a time where `data` is streamed. Rows are counted, not people: a table
    with several rows of a person needs its bounds set higher by as much.

    Parameters
    ----------
    data
        The data as they would be handed out: a `Dataset`, an Arrow table or a frame.

    Raises
    ------
    Refused
        A bound is missed. Says the line, the measured value, how many classes and rows miss it, and what would satisfy it.
    UsageError
        The rule names no quasi-identifiers, or asks for `l` or `t` without sensitive columns, or a column that the data lack and that the
        policy does not drop.
    InvalidInput
        No rows, or a column whose values cannot be compared.
    """
    rule = policy.release
    if rule is None:
        return None
    source = data if isinstance(data, Dataset) else as_table(data)
    quasi, sensitive = _columns(source, policy, rule)
    rows = len(source)
    classes = equivalence_classes(source, quasi) if quasi else one_class(rows)
    k = k_of(classes)
    found: dict[str, Any] = {}
    _ask(k, rule.k, "k", source, rule, quasi, sensitive)
    if rule.max_risk is not None:
        found["risk"] = 1.0 / k.value
        if found["risk"] > rule.max_risk:
            raise _refusal(k, 1.0 / rule.max_risk, "max_risk", found["risk"], rule.max_risk, source, rule, quasi, sensitive)
    if rule.l is not None and sensitive:
        diversity = l_of(classes, source, sensitive)
        _ask(diversity, rule.l, "l", source, rule, quasi, sensitive)
        found["l"] = int(diversity.value)
    if rule.t is not None and sensitive:
        closeness = t_of(classes, source, sensitive)
        _ask(closeness, rule.t, "t", source, rule, quasi, sensitive)
        found["t"] = closeness.value
    return ReleaseReport(quasi, sensitive, rows, len(classes), int(k.value), **found)


def anonymise_for_release(data: Any, policy: MaskingPolicy) -> Anonymised:
    """Make the quasi-identifiers of masked data coarser until ``masking.release`` holds. Parameters as in `check_release`.

    Raises
    ------
    UsageError
        The policy has no such rule, or none of the quasi-identifiers is left; else as `check_release`.
    InvalidInput
        The table as one class does not satisfy the rule.
    """
    if policy.release is None:
        raise UsageError("The policy says nothing about what released data must reach.", hint="Add masking.release, for example {k: 5}.")
    source = data if isinstance(data, Dataset) else as_table(data)
    quasi, sensitive = _columns(source, policy, policy.release)
    return _reach(source, policy.release, quasi, sensitive)


class ReleaseGate:
    """Collects what `check_release` reads of masked data that are written batch by batch; nothing else of them is kept in memory."""

    def __init__(self, policy: MaskingPolicy) -> None:
        self._policy = policy
        self._parts: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        """Take note of the next rows."""
        if self._policy.release is not None:
            names = dict.fromkeys((*self._policy.quasi_identifiers, *self._policy.sensitive))
            self._parts.append(table.select([name for name in names if name in table.column_names]))

    def check(self) -> ReleaseReport | None:
        """What `check_release` says of all rows. To be called before what was written is let out."""
        return check_release(pa.concat_tables(self._parts), self._policy) if self._parts else None


def _columns(source: Any, policy: MaskingPolicy, rule: ReleaseRule) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The quasi-identifiers and the sensitive columns that are left."""
    if not policy.quasi_identifiers:
        raise UsageError("masking.release needs masking.quasi_identifiers: the columns that together may identify a person.")
    if (rule.l is not None or rule.t is not None) and not policy.sensitive:
        raise UsageError("masking.release.l and t need masking.sensitive: the columns that nobody should learn about a person.")
    quasi = _released(policy.quasi_identifiers, source, policy, "quasi_identifiers")
    return quasi, _released(policy.sensitive, source, policy, "sensitive")


def _released(names: tuple[str, ...], source: Any, policy: MaskingPolicy, line: str) -> tuple[str, ...]:
    """The columns that are still there; an absent one must have been dropped on purpose."""
    known = source.schema.names
    for name in names:
        operator = policy.fields.get(name)
        if name not in known and (operator is None or operator.name != "drop"):
            raise UsageError(f"masking.{line} names '{name}', which the data to release lack.{nearest(name, known)}")
    return tuple(name for name in names if name in known)


def _ask(
    measure: Measure, bound: float | None, line: str, source: Any, rule: ReleaseRule, quasi: tuple[str, ...], sensitive: tuple[str, ...]
) -> None:
    if bound is not None and len(measure.failing(bound)):
        raise _refusal(measure, bound, line, measure.value, bound, source, rule, quasi, sensitive)


def _refusal(
    measure: Measure,
    needed: float,
    line: str,
    measured: float,
    bound: float,
    source: Any,
    rule: ReleaseRule,
    quasi: tuple[str, ...],
    sensitive: tuple[str, ...],
) -> Refused:
    failing = measure.failing(needed)
    rows = int(measure.classes.sizes[failing].sum())
    name = {"k": "k", "l": "l", "t": "t", "max_risk": "a re-identification risk of"}[line]
    is_, at = ("is above", "at most") if line in ("t", "max_risk") else ("is below", "at least")
    return Refused(
        f"The data may not be released: {name} {measured:.4g} over {', '.join(quasi) or 'all rows'} {is_} the policy's bound ({at} {bound:.4g}). "
        f"{len(failing)} of {len(measure.classes)} classes miss it, with {rows} of {len(source)} rows.",
        by="masking",
        line=f"masking.release.{line}",
        measured=int(measured) if line in ("k", "l") else round(measured, 6),
        bound=bound,
        satisfy=_what_would_do(source, rule, quasi, sensitive),
    )


def _what_would_do(source: Any, rule: ReleaseRule, quasi: tuple[str, ...], sensitive: tuple[str, ...]) -> str:
    if not quasi:
        return "No quasi-identifier is left to make coarser: drop sensitive columns, or add rows."
    asked = [f"k {_rows(rule)}"] + [f"{name} {bound:g}" for name, bound in (("l", rule.l), ("t", rule.t)) if bound is not None]
    try:
        made = _reach(source.select(list(dict.fromkeys((*quasi, *sensitive)))), rule, quasi, sensitive)
    except InvalidInput as error:
        return f"No generalisation reaches {', '.join(asked)}: {error.message} Drop quasi-identifiers or sensitive columns, or add rows."
    return (
        f"Mondrian generalisation of {', '.join(quasi)} reaches {', '.join(asked)}: {made.classes} classes, the smallest with {made.k} rows, "
        f"at {made.loss:.1%} loss of information (affidavit mask --anonymise). Or make them coarser with 'generalise', or drop some."
    )


def _rows(rule: ReleaseRule) -> int:
    """The k that satisfies both `k` and `max_risk`."""
    return max(rule.k or 1, 1 if rule.max_risk is None else math.ceil(1.0 / rule.max_risk - TOLERANCE))


def _reach(source: Any, rule: ReleaseRule, quasi: tuple[str, ...], sensitive: tuple[str, ...]) -> Anonymised:
    bounds: dict[str, Any] = {"l": rule.l, "t": rule.t} if sensitive else {}
    return anonymise(source, quasi, _rows(rule), sensitive=sensitive, **bounds)
