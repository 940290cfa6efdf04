"""Checks of a masking operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.interfaces.masking import Operator
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCase(Case):
    """How a masking operator is tried.

    Attributes
    ----------
    settings
        What it is told.
    """

    kind: ClassVar[str] = "operator"
    settings: Mapping[str, Any] = field(default_factory=dict)


class OperatorSubject(Subject[OperatorCase]):
    """A masking operator."""

    kind = "operator"
    Case = OperatorCase


@check("operator", Tier.API)
def operator_is_what_it_registered(subject: OperatorSubject) -> None:
    """The class is an `Operator`, and its `name` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Operator)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.interfaces.masking.Operator.")
    if subject.value.name != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.name}': give both the same name.")
