"""What of the SDK a plugin's code has replaced: seen by the plugin manager and by the conformance kit, which put it back.

This finds mistakes and carelessness. In one Python process no wall holds against code that hides what it does.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

State = Sequence[tuple[str, Any, Mapping[str, Any]]]
"""Modules and classes: full name, itself, and what it held."""

SDK = ("affidavit", "affidavit_governance")
"""Packages of which a plugin may change nothing."""

_CODE = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property, type)


def sdk_state() -> State:
    """What every module of the SDK that is loaded, and every class in one, holds."""
    found: list[tuple[str, Any, Mapping[str, Any]]] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith("affidavit") or name.partition(".")[0] not in SDK or module is None:  # the first for thousands of others
            continue
        held = dict(vars(module))
        found.append((name, module, held))
        found += [(f"{name}.{key}", value, dict(vars(value))) for key, value in held.items() if isinstance(value, type) and value.__module__ == name]
    return found


def sdk_changes(before: State) -> list[str]:
    """Full names of functions, classes and public constants that are another object now, or gone, since `sdk_state` gave `before`."""
    return sorted(f"{name}.{key}" for name, _, key, _ in _changes(before))


def restore(before: State) -> None:
    """Put back what is another object than it was."""
    for _, holder, key, value in _changes(before):
        setattr(holder, key, value)


def _changes(before: State) -> list[tuple[str, Any, str, Any]]:
    found = []
    for name, holder, held in before:
        now = vars(holder)
        # Nearly always nothing has changed, which this sees without a step in Python for each of thousands of names. A list, because a thread
        # that was left behind may be adding to it.
        if len(now) == len(held) and all(map(operator.is_, list(now.values()), held.values())):
            continue
        found += [(name, holder, key, value) for key, value in held.items() if _guarded(holder, key, value) and now.get(key) is not value]
    return found


def _guarded(holder: Any, key: str, value: Any) -> bool:
    """Not what a class keeps for itself, nor a module's own state and what it imported."""
    if isinstance(holder, type):
        return isinstance(value, _CODE)
    return not isinstance(value, types.ModuleType) and (isinstance(value, _CODE) or not key.startswith("_"))
