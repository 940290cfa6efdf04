"""Checks of a recognizer of personal data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerCase(Case):
    """How a recognizer of personal data is tried.

    Attributes
    ----------
    settings
        What it is told.
    """

    kind: ClassVar[str] = "recognizer"
    settings: Mapping[str, Any] = field(default_factory=dict)


class RecognizerSubject(Subject[RecognizerCase]):
    """A recognizer of personal data."""

    kind = "recognizer"
    Case = RecognizerCase


@check("recognizer", Tier.API)
def recognizer_is_what_it_registered(subject: RecognizerSubject) -> None:
    """The class has `entities` and `scan`."""
    missing = [name for name in ("entities", "scan") if not hasattr(subject.value, name)]
    if missing:
        raise CheckFailed(f"it has no {', '.join(missing)}.")
