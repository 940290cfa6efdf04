"""Checks of a key provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.report import Tier
from affidavit.testing.subjects import Case, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProviderCase(Case):
    """How a key provider is tried.

    Attributes
    ----------
    settings
        What it is told.
    """

    kind: ClassVar[str] = "key_provider"
    settings: Mapping[str, Any] = field(default_factory=dict)


class KeyProviderSubject(Subject[KeyProviderCase]):
    """A key provider."""

    kind = "key_provider"
    Case = KeyProviderCase


@check("key_provider", Tier.API)
def key_provider_is_what_it_registered(subject: KeyProviderSubject) -> None:
    """The class has `label`, `describe`, `wrap` and `unwrap`."""
    missing = [name for name in ("label", "describe", "wrap", "unwrap") if not hasattr(subject.value, name)]
    if missing:
        raise CheckFailed(f"it has no {', '.join(missing)}.")
