"""Where the specimens of one kind are kept: the sound ones, and the broken ones by the check that must catch them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from affidavit.testing.subjects import Case, Subject


@dataclass
class Pen:
    """The specimens of one kind.

    Attributes
    ----------
    subject
        The kit's subject of this kind.
    name
        Under which every specimen is registered.
    case
        How a specimen is tried that brings no case of its own.
    capabilities
        What a specimen claims that says nothing else.
    prepare
        Makes of a specimen what the subject is given.
    """

    subject: type[Subject[Any]]
    name: str
    case: Case | None = None
    capabilities: tuple[str, ...] = ()
    prepare: Callable[[Any], Any] = lambda specimen: specimen
    sound: list[tuple[str, Callable[[], Subject[Any]]]] = field(default_factory=list)
    broken: dict[str, list[tuple[str, Callable[[], Subject[Any]]]]] = field(default_factory=dict)

    def passes(self, value: Any = None, *, case: Case | None = None, capabilities: Iterable[str] | None = None) -> Any:
        """Enter a sound class, as a decorator or a call; the kit must find nothing in it."""
        if value is None:
            return lambda value: self.passes(value, case=case, capabilities=capabilities)
        self.sound.append((value.__name__, self._maker(value, case, capabilities)))
        return value

    def caught_by(self, check: str, *, case: Case | None = None, capabilities: Iterable[str] | None = None) -> Callable[[Any], Any]:
        """Enter a broken class: `check` must fail on it, and no other check."""

        def enter(value: Any) -> Any:
            self.broken.setdefault(check, []).append((value.__name__, self._maker(value, case, capabilities)))
            return value

        return enter

    def _maker(self, value: Any, case: Case | None, capabilities: Iterable[str] | None) -> Callable[[], Subject[Any]]:
        claimed = frozenset(self.capabilities if capabilities is None else capabilities)
        return lambda: self.subject(self.prepare(value), self.name, claimed, case or self.case)
