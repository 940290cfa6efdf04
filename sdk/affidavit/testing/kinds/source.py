"""Checks of a place that data sets come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.interfaces.dataset import DatasetSource
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCase(Case):
    """How a place that data sets come from is tried.

    Attributes
    ----------
    options
        What it is told.
    """

    kind: ClassVar[str] = "source"
    options: Mapping[str, Any] = field(default_factory=dict)


class SourceSubject(Subject[SourceCase]):
    """A place that data sets come from."""

    kind = "source"
    Case = SourceCase


@check("source", Tier.API)
def source_is_what_it_registered(subject: SourceSubject) -> None:
    """The class is a `DatasetSource`, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, DatasetSource)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.DatasetSource.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")
