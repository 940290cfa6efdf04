"""How numbers, digests and tables look, and how a number names its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from affidavit.interfaces.governance import Evidence
from affidavit_governance.compliance.markup import Child, Markup, join, tag


def written(value: Any) -> str:
    """A value for people: three or four significant digits, groups of three in large whole numbers, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if value == 0 or 1e-3 <= abs(value) < 1e6:
            return f"{value:.{3 if abs(value) < 1 else 4}g}" if abs(value) < 1e4 else written(round(value))
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}·10{_raised(int(exponent))}" if exponent else mantissa
    return str(value)


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def cite(evidence: Evidence) -> Markup:
    """The link from a number to its row in the evidence table."""
    return tag("sup", tag("a", f"E{evidence.index}", href=f"#E{evidence.index}", title=f"Evidence {evidence.index}: {evidence.kind}"))


def figure(value: Any, evidence: Evidence, unit: str = "") -> Markup:
    """A number that names its evidence."""
    return tag("span", written(value), f" {unit}" if unit else "", cite(evidence), class_="figure")


def digest(value: str | None) -> Markup:
    """A digest, shortened for the eye; the whole stands in its title."""
    return tag("code", f"{value[:12]}…", title=value) if value else tag("span", "–")


def table(head: Sequence[Child], rows: Sequence[Sequence[Child]], *, class_: str = "") -> Markup:
    """A table; wide ones scroll on their own."""
    if not rows:
        return Markup("")
    body = [tag("tr", [tag("td", cell) for cell in row]) for row in rows]
    return tag(
        "div", tag("table", tag("thead", tag("tr", [tag("th", cell) for cell in head])), tag("tbody", body), class_=class_ or None), class_="scroll"
    )


def facts(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """A list of names and values."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="facts")


def counted(count: int, what: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{written(count)} {what}{'' if count == 1 else 's'}"


def section(name: str, title: str, *content: Child) -> Markup:
    """A section with an anchor."""
    return tag("section", tag("h2", title), *content, id=name)


def none(text: str) -> Markup:
    """What is said where there is nothing."""
    return tag("p", text, class_="none")


def prose(*content: Child) -> Markup:
    """A paragraph."""
    return tag("p", join(*content))
