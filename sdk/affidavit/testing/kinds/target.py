"""Checks of a deployment target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.interfaces.deployment import Deployment
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCase(Case):
    """How a deployment target is tried.

    Attributes
    ----------
    options
        What it is told.
    """

    kind: ClassVar[str] = "target"
    options: Mapping[str, Any] = field(default_factory=dict)


class TargetSubject(Subject[TargetCase]):
    """A deployment target."""

    kind = "target"
    Case = TargetCase


@check("target", Tier.API)
def target_is_what_it_registered(subject: TargetSubject) -> None:
    """The class is a `Deployment`, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Deployment)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.Deployment.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")
