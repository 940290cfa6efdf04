"""HTML as a tree of calls: every text is escaped, because only `tag` makes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Markup(str):
    """HTML that `tag` or `join` built; any other text is escaped before it enters a page."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]

_VOID = frozenset({"meta", "br", "line", "rect", "circle", "path", "polyline", "use"})


def tag(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """One element. A trailing underscore is dropped from attribute names (``class_``), the others become hyphens; None is left out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_number(value), quote=True)}"' for key, value in attributes.items() if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    """Elements and texts one after the other."""
    return Markup("".join(_one(child) for child in children))


def _one(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, (str, int, float)):
        return html.escape(str(child))
    return "".join(_one(item) for item in child)


def _number(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
