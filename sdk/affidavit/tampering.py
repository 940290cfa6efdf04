"""What of the SDK a plugin's code has replaced: seen by the plugin manager and by the conformance kit, which put it back.

This finds mistakes and carelessness. In one Python process no wall holds against code that hides what it does.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Mapping
from typing import Any

State = Mapping[str, tuple[Any, str, Any]]
"""By full name: who holds it, under which name, and it itself."""

SDK = ("affidavit", "affidavit_governance")
"""Packages of which a plugin may change nothing."""

_CODE = (types.FunctionType, classmethod, staticmethod, property, functools.cached_property, type)


def sdk_state() -> State:
    """Every function, class and public constant of the SDK that is loaded."""
    found: dict[str, tuple[Any, str, Any]] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in SDK or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            if not isinstance(value, types.ModuleType) and (isinstance(value, _CODE) or not attribute.startswith("_")):
                found[f"{name}.{attribute}"] = (module, attribute, value)
            if isinstance(value, type) and value.__module__ == name:
                found |= {f"{name}.{attribute}.{key}": (value, key, item) for key, item in list(vars(value).items()) if isinstance(item, _CODE)}
    return found


def sdk_changes(before: State) -> list[str]:
    """Full names of what is another object now, or gone, since `sdk_state` gave `before`."""
    return sorted(name for name, (holder, attribute, value) in before.items() if vars(holder).get(attribute) is not value)


def restore(before: State) -> None:
    """Put back what is another object than it was."""
    for name in sdk_changes(before):
        holder, attribute, value = before[name]
        setattr(holder, attribute, value)
