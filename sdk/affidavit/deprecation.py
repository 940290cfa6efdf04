"""Deprecations: what goes away says so for at least one minor release, and says what to use instead.

>>> @deprecated("affidavit.old", since="0.2", removal="0.3", instead="use affidavit.new")
... def old():
...     return new()
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib import metadata
from typing import Any, TypeVar

from packaging.version import Version

from affidavit.errors import UsageError

T = TypeVar("T", bound=Callable[..., Any])


class AffidavitDeprecationWarning(FutureWarning):
    """Something that was used goes away in a later release.

    A FutureWarning, because Python hides a DeprecationWarning from everybody but tests and ``__main__``, and who must act here runs a job: a
    project, a service, a plugin in somebody else's workspace. Python shows it once for each place that uses the thing.
    """


@dataclass(frozen=True, slots=True)
class Deprecation:
    """One thing that goes away.

    Attributes
    ----------
    what
        Its name, as its users write it.
    since
        The release that deprecates it.
    removal
        The release without it: a later minor or major release than `since`.
    instead
        What to do, as an imperative: ``"use affidavit.new"``.
    distribution
        Whose releases these are.
    """

    what: str
    since: str
    removal: str
    instead: str
    distribution: str = "affidavit"

    def __post_init__(self) -> None:
        if Version(self.removal).release[:2] <= Version(self.since).release[:2]:
            hint = "Let it live for one minor release at least."
            raise UsageError(f"'{self.what}' is deprecated in {self.since} and removed in {self.removal} already.", hint=hint)
        if not self.instead.strip():
            raise UsageError(f"The deprecation of '{self.what}' does not say what to do instead.")
        _DECLARED.append(self)

    @property
    def overdue(self) -> bool:
        """Whether the installed release is one that should no longer have it."""
        return Version(metadata.version(self.distribution)) >= Version(self.removal)

    def warn(self, *, stacklevel: int = 2) -> None:
        """Warn at the place that uses it: by default, whoever called the function that calls this."""
        warnings.warn(str(self), AffidavitDeprecationWarning, stacklevel=stacklevel + 1)

    def __str__(self) -> str:
        return f"{self.what} is deprecated since {self.distribution} {self.since} and goes in {self.removal}: {self.instead}."


_DECLARED: list[Deprecation] = []


def declared(distribution: str = "affidavit") -> tuple[Deprecation, ...]:
    """The deprecations of `distribution` in the modules that are imported."""
    return tuple(each for each in _DECLARED if each.distribution == distribution)


def deprecated(what: str, *, since: str, removal: str, instead: str, distribution: str = "affidavit") -> Callable[[T], T]:
    """Mark a function, or a class whose objects and subclasses then warn."""
    notice = Deprecation(what, since, removal, instead, distribution)

    def mark(value: T) -> T:
        if isinstance(value, type):
            _warn_of_class(value, notice)
            return value

        @wraps(value)
        def warned(*args: Any, **kwargs: Any) -> Any:
            notice.warn()
            return value(*args, **kwargs)

        return warned  # type: ignore[return-value]  # it takes and gives what `value` does

    return mark


def deprecated_parameter(name: str, *, since: str, removal: str, instead: str, distribution: str = "affidavit") -> Callable[[T], T]:
    """Mark the parameter `name` of a function: whoever gives it, by name or by position, is warned."""

    def mark(function: T) -> T:
        notice = Deprecation(f"the parameter '{name}' of {function.__qualname__}", since, removal, instead, distribution)
        signature = inspect.signature(function)
        if name not in signature.parameters:
            raise UsageError(f"{function.__qualname__} has no parameter '{name}' that could be deprecated.")

        @wraps(function)
        def warned(*args: Any, **kwargs: Any) -> Any:
            if name in kwargs or name in signature.bind_partial(*args, **kwargs).arguments:
                notice.warn()
            return function(*args, **kwargs)

        return warned  # type: ignore[return-value]  # it takes and gives what `function` does

    return mark


def _warn_of_class(cls: Any, notice: Deprecation) -> None:
    plain_init, plain_subclass = cls.__init__, cls.__init_subclass__

    @wraps(plain_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is cls:  # a subclass was told of when it was made
            notice.warn()
        plain_init(self, *args, **kwargs)

    def subclass(made: type, /, **kwargs: Any) -> None:
        depth = 1
        while sys._getframe(depth).f_globals.get("__name__") == "abc":  # an abstract class is made in there, not where it is written
            depth += 1
        notice.warn(stacklevel=depth + 1)
        if hasattr(plain_subclass, "__func__"):
            plain_subclass.__func__(made, **kwargs)

    cls.__init__ = init
    cls.__init_subclass__ = classmethod(subclass)
