"""Every error that Affidavit raises on purpose.

A message says what happened, to whose object, why, and the next step. It never quotes a cell of a data set: rows hold personal data,
so messages name columns, row numbers and counts instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class AffidavitError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    message
        What happened, to whose object and why, in one sentence.
    hint
        The next step that would mend it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"


class UsageError(AffidavitError):
    """The call itself is wrong: an unknown name, an argument that does not fit."""

    exit_code = 2


class InvalidInput(AffidavitError):
    """Data or a file that was handed in cannot be used as it is."""


class MissingExtra(AffidavitError):
    """A library that an extra installs is absent.

    Parameters
    ----------
    what
        Whose library is missing, for example ``"model type 'text.classifier'"``.
    extra, distribution
        The extra that brings it, and whose extra that is.
    library
        The module that could not be imported.
    """

    def __init__(self, what: str, *, extra: str, library: str, distribution: str = "affidavit") -> None:
        super().__init__(f"{what} needs '{library}', which is not installed.", hint=f"pip install '{distribution}[{extra}]'")
        self.extra = extra
        self.library = library


class Refused(AffidavitError):
    """Governance said no: an ordinary result for the people who read it.

    Parameters
    ----------
    message
        What was refused and why.
    by
        Who refused: ``"policy"``, ``"budget"``, ``"access"``, ``"privacy"`` or ``"masking"``.
    line
        The key path in the policy file that refused, for example ``"privacy.dataset_budget"``.
    measured, bound
        The measured value and the bound that it missed, where there are such.
    satisfy
        What would satisfy the rule.
    """

    def __init__(
        self,
        message: str,
        *,
        by: str,
        line: str,
        measured: float | int | str | None = None,
        bound: float | int | str | None = None,
        satisfy: str | None = None,
    ) -> None:
        super().__init__(message, hint=satisfy)
        self.by = by
        self.line = line
        self.measured = measured
        self.bound = bound
        self.satisfy = satisfy

    def __str__(self) -> str:
        return f"{super().__str__()} (policy line: {self.line})"


class IntegrityError(AffidavitError):
    """Something that must not change has changed: a ledger, an artifact, a sealed object, a bundle."""


class PluginError(AffidavitError):
    """A plugin broke the contract; the message names the plugin and the hook or method."""


class UngovernedCallWarning(UserWarning):
    """A method of a governed model was called directly, outside the workspace that governs it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant: ``" Did you mean 'x'?"``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{match[0]}'?" if match else ""
