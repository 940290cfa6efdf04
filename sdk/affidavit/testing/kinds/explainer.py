"""Checks of an explainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.interfaces.explainer import Explainer
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainerCase(Case):
    """How an explainer is tried.

    Attributes
    ----------
    options
        What it is told.
    """

    kind: ClassVar[str] = "explainer"
    options: Mapping[str, Any] = field(default_factory=dict)


class ExplainerSubject(Subject[ExplainerCase]):
    """An explainer."""

    kind = "explainer"
    Case = ExplainerCase


@check("explainer", Tier.API)
def explainer_is_what_it_registered(subject: ExplainerSubject) -> None:
    """The class is an `Explainer`, and its `type` is the name that it is registered under."""
    if not (isinstance(subject.value, type) and issubclass(subject.value, Explainer)):
        raise CheckFailed(f"{subject.value!r} is no subclass of affidavit.Explainer.")
    if subject.value.type != subject.name:
        raise CheckFailed(f"it is registered as '{subject.name}' and calls itself '{subject.value.type}': give both the same name.")
