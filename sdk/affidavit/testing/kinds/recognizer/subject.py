"""A recognizer under check: what it is told, what it must find and what it must leave alone."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from affidavit.interfaces.masking import Finding, Recognizer
from affidavit.testing.checks import CheckFailed, Skip
from affidavit.testing.subjects import Case, Subject, once


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognizerCase(Case):
    """How a recognizer of personal data is tried.

    Attributes
    ----------
    settings
        What it is told; or a function that is given an empty folder and returns that, for a recognizer that needs a model or a list there.
    examples
        For each entity that it finds, texts each with the value in it: ``{"STAFF_ID": [("badge E-104729", "E-104729")]}``. The value stands
        once in the text, and belongs to nobody.
    counterexamples
        Texts that look like it and are none, such as a number whose check digit is wrong.
    """

    kind: ClassVar[str] = "recognizer"
    settings: Mapping[str, Any] | Callable[[Path], Mapping[str, Any]] = field(default_factory=dict)
    examples: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    counterexamples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A text, and what stands where in it."""

    text: str
    entity: str
    start: int
    end: int

    @property
    def value(self) -> str:
        """What must be found."""
        return self.text[self.start : self.end]


class RecognizerSubject(Subject[RecognizerCase]):
    """A recognizer of personal data."""

    kind = "recognizer"
    Case = RecognizerCase

    @once
    def settings(self) -> Mapping[str, Any]:
        """What it is told."""
        settings = self.case.settings
        if not callable(settings):
            return settings
        self._folder = tempfile.TemporaryDirectory()  # goes when the subject does
        return settings(Path(self._folder.name))

    def make(self, **more: Any) -> Recognizer:
        """A new recognizer, told `more` than its case says."""
        made: Recognizer = self.value(**self.settings, **more)
        return made

    @once
    def made(self) -> Recognizer:
        """One recognizer that checks share, as one serves a whole workspace."""
        return self.make()

    @property
    def entities(self) -> list[str]:
        """What it says that it finds."""
        entities: Any = self.made.entities
        return list(entities() if callable(entities) else entities)

    @once
    def examples(self) -> list[Example]:
        """What it must find. Raises Skip where the case has no example, and CheckFailed where a value does not stand in its text once."""
        if not any(self.case.examples.values()):
            raise Skip("it has no example: see the check 'its_examples_are_found_where_they_stand'")
        found = []
        for entity, pairs in self.case.examples.items():
            for number, (text, value) in enumerate(pairs, 1):
                if not value or text.count(value) != 1:
                    raise CheckFailed(f"in example {number} of {entity} the value does not stand exactly once in its text.")
                found.append(Example(text, entity, text.index(value), text.index(value) + len(value)))
        return found

    @property
    def texts(self) -> list[str]:
        """The texts of its case, those with several values once, and one with nothing in it."""
        given = [text for pairs in self.case.examples.values() for text, _ in pairs]
        return list(dict.fromkeys([*given, *self.case.counterexamples, "Nothing is to be found here."]))

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """The findings in each text, in order of position. Raises CheckFailed where there is not one list for each."""
        found = self.made.scan(texts)
        if len(found) != len(texts):
            raise CheckFailed(f"scan gave {len(found)} lists for {len(texts)} texts: give one for each, in their order.")
        return [sorted(each, key=lambda finding: (finding.start, finding.end, finding.entity)) for each in found]


ENTITY = re.compile(r"[A-Z][A-Z0-9_]*")
"""What an entity's name looks like: placeholders such as ``<EMAIL_ADDRESS>`` are made of it."""
