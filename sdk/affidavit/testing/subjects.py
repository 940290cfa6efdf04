"""What is under check: a registered class, and the case in which it is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, overload


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How one registration is tried. Each kind has its own, with what it needs besides.

    Attributes
    ----------
    name
        The registration.
    label
        Tells several cases of one registration apart.
    """

    kind: ClassVar[str]
    name: str = ""
    label: str = ""


C = TypeVar("C", bound=Case)
T = TypeVar("T")


class once(Generic[T]):  # a decorator, as property is
    """A property that is worked out at first use and kept.

    In Python 3.11 `functools.cached_property` holds one lock for all objects of a class meanwhile: a subject that hangs there would take every
    later one with it. This one has no lock.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> T | once[T]:
        if instance is None:
            return self
        kept = vars(instance)
        if self._name not in kept:
            kept[self._name] = self._function(instance)
        return kept[self._name]  # type: ignore[no-any-return]  # just put there


class Subject(Generic[C]):
    """One registration in one case.

    Attributes
    ----------
    value
        What the registration's path stands for: a class.
    name
        Under which it is registered.
    claimed
        The capabilities that its registration claims.
    case
        How it is tried.
    """

    kind: ClassVar[str]
    Case: ClassVar[type[Case]]

    def __init__(self, value: Any, name: str, claimed: frozenset[str] = frozenset(), case: C | None = None) -> None:
        self.value = value
        self.name = name
        self.claimed = claimed
        self.case: C = case if case is not None else self.Case(name=name)  # type: ignore[assignment]  # the subject's own kind of case

    def __str__(self) -> str:
        return spoken(self.kind, self.name) + (f" ({self.case.label})" if self.case.label else "")


def spoken(kind: str, name: str) -> str:
    """A registration in words: ``"key provider acme_hsm"``."""
    return f"{kind.replace('_', ' ')} {name}"
