"""What of the SDK a plugin's code has replaced: seen by the plugin manager and by the conformance kit, which put it back.

This finds mistakes and carelessness. In one Python process no wall holds against code that hides what it does.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Mapping, Sequence, ValuesView
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

SDK = ("affidavit", "affidavit_governance")
"""Packages of which a plugin may change nothing."""

_CODE = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property, type)


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """What modules and classes held.

    Attributes
    ----------
    modules
        The modules, by name.
    held
        Full name, itself, and a copy of its names and values, for each module and each class in one.
    """

    modules: Sequence[tuple[str, types.ModuleType]] = ()
    held: Sequence[tuple[str, Any, Mapping[str, Any]]] = ()
    _values: Sequence[Any] = ()
    _now: Sequence[ValuesView[Any]] = ()

    @classmethod
    def of(cls, modules: Sequence[tuple[str, types.ModuleType]]) -> Self:
        """What they hold now."""
        held: list[tuple[str, Any, Mapping[str, Any]]] = []
        for name, module in modules:
            there = dict(vars(module))
            classes = [(key, value) for key, value in there.items() if isinstance(value, type) and value.__module__ == name]
            held += [(name, module, there), *((f"{name}.{key}", value, dict(vars(value))) for key, value in classes)]
        values = list(chain.from_iterable(values.values() for *_, values in held))
        return cls(modules, held, values, [vars(holder).values() for _, holder, _ in held])

    @property
    def stands(self) -> bool:
        """Whether all of it is still there and nothing else: nearly always so, and seen without a step in Python for each of thousands of names."""
        now = list(chain.from_iterable(self._now))  # in one go, because a thread that was left behind may be adding to it
        return len(now) == len(self._values) and all(map(operator.is_, now, self._values))


_last = [State()]
"""Most checks leave the SDK as it was, so that the state before one serves for the next."""


def sdk_state() -> State:
    """What every module of the SDK that is loaded, and every class in one, holds."""
    modules = [
        (name, module)
        for name, module in list(sys.modules.items())
        if name.startswith("affidavit") and name.partition(".")[0] in SDK and module is not None  # the first for thousands of others
    ]
    if _last[0].modules != modules or not _last[0].stands:
        _last[0] = State.of(modules)
    return _last[0]


def sdk_changes(before: State) -> list[str]:
    """Full names of functions, classes and public constants that are another object now, or gone, since `sdk_state` gave `before`."""
    return sorted(f"{name}.{key}" for name, _, key, _ in _changes(before))


def restore(before: State) -> None:
    """Put back what is another object than it was."""
    for _, holder, key, value in _changes(before):
        setattr(holder, key, value)


def _changes(before: State) -> list[tuple[str, Any, str, Any]]:
    if before.stands:
        return []
    return [
        (name, holder, key, value)
        for name, holder, held in before.held
        for now in [dict(vars(holder))]
        for key, value in held.items()
        if now.get(key) is not value and _guarded(holder, key, value)
    ]


def _guarded(holder: Any, key: str, value: Any) -> bool:
    """Not what a class keeps for itself, nor a module's own state and what it imported."""
    if isinstance(holder, type):
        return isinstance(value, _CODE)
    return not isinstance(value, types.ModuleType) and (isinstance(value, _CODE) or not key.startswith("_"))
