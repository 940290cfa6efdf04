"""The options that say who the players are, the same for every explainer that plays games."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.schema import FieldType, Schema

PLAYER_OPTIONS: dict[str, Any] = {"players": {}, "grid": 4, "fill": "mean", "cuts": "equal", "rate": None}
"""Their names and defaults, for `Options.read(…, own=PLAYER_OPTIONS)`; `PlayerOptions` says what they mean."""

KINDS: dict[str, frozenset[FieldType]] = {
    "field": frozenset(FieldType),
    "words": frozenset({FieldType.TEXT}),
    "regions": frozenset({FieldType.TENSOR}),
    "superpixels": frozenset({FieldType.TENSOR}),
    "segments": frozenset({FieldType.TENSOR}),
    "items": frozenset({FieldType.TENSOR}),
}
"""What the players of one field can be, and the types of field that each fits."""

REGIONS = frozenset({"regions", "superpixels", "segments"})
"""The kinds that cut a tensor into pieces."""

_FILLS = ("mean", "blur")
_CUTS = ("equal", "quiet")


@dataclass(frozen=True, slots=True)
class PlayerOptions:
    """Who the players are.

    Attributes
    ----------
    players
        By field: ``"field"`` (the whole value), ``"words"``, ``"regions"`` (cells of a grid), ``"superpixels"``, ``"segments"`` (along the longest
        axis) or ``"items"`` (positions of a history of item numbers, 0 is padding). Texts are words and tensors regions where nothing is said.
    grid
        Cells along each side of an image; its square is the number of superpixels and of segments.
    fill
        What an absent region shows: ``"mean"`` of the background, a ``"blur"`` of the row itself, or a constant.
    cuts
        Where segments end: ``"equal"`` lengths, or at the ``"quiet"`` place nearest to those.
    rate
        Numbers along the longest axis in a second, so that segments are named in seconds.
    """

    players: Mapping[str, str]
    grid: int
    fill: str | float
    cuts: str
    rate: float | None

    @classmethod
    def read(cls, method: str, given: Mapping[str, Any], schema: Schema) -> PlayerOptions:
        """Check the options of explainer `method` against the fields. Raises UsageError where one is unfit."""
        found = cls(**{name: given.get(name, default) for name, default in PLAYER_OPTIONS.items()})
        what = f"of explainer '{method}' must be"
        if not isinstance(found.players, Mapping):
            raise UsageError(f"Option 'players' {what} a mapping from a field to what its players are.", hint=f"Kinds: {', '.join(KINDS)}.")
        for field, kind in found.players.items():
            _check_kind(field, kind, schema)
        if not isinstance(found.grid, int) or isinstance(found.grid, bool) or found.grid < 1:
            raise UsageError(f"Option 'grid' {what} a whole number above zero.")
        if found.fill not in _FILLS and not _finite(found.fill):
            raise UsageError(f"Option 'fill' {what} 'mean', 'blur' or a number.")
        if found.cuts not in _CUTS:
            raise UsageError(f"Option 'cuts' {what} 'equal' or 'quiet'.")
        if found.rate is not None and not (_finite(found.rate) and found.rate > 0):
            raise UsageError(f"Option 'rate' {what} a number above zero.")
        return found

    def kind(self, field: str, type_: FieldType) -> str:
        """What the players of `field` are."""
        return self.players.get(field, {FieldType.TEXT: "words", FieldType.TENSOR: "regions"}.get(type_, "field"))


def _check_kind(field: Any, kind: Any, schema: Schema) -> None:
    if field not in schema.names:
        raise UsageError(f"Option 'players' names '{field}', which is no input of this model.{nearest(str(field), schema.names)}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"The players of '{field}' cannot be '{kind}'.{nearest(str(kind), KINDS)}", hint=f"Kinds: {', '.join(KINDS)}.")
    if schema[field].type not in KINDS[kind]:
        fit = [name for name, types in KINDS.items() if schema[field].type in types]
        raise UsageError(f"'{field}' is a {schema[field].type} field and has no {kind}.", hint=f"Its players can be: {', '.join(fit)}.")


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
