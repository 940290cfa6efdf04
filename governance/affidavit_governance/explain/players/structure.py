"""The hierarchy of all players of a row: what their blocks know of neighbourhood, and the groups of fields that the caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from affidavit.errors import UsageError, nearest
from affidavit_governance.explain.estimators.partition import Hierarchy, players_in
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.players.grouping import Grouping

Names: TypeAlias = "str | Sequence[Names]"
"""A unit's name, or a group of units and groups. A unit is a player that is a field, or a text or tensor with all its players."""


class Structure:
    """Groups within groups of a case's fields, over which Owen values are taken; the fields in a group stay players of their own.

    Parameters
    ----------
    given
        From a group's name to its fields, or to groups within it. Fields that no group names stand beside the groups.

    Raises
    ------
    UsageError
        A group names what is no input, is empty, or shares a field or a player with another.
    """

    def __init__(self, given: object, players: Players, grouping: Grouping, *, method: str) -> None:
        self._method = method
        self._units = [name for block in players.blocks for name in (block.players if isinstance(block, FieldBlock) else block.fields)]
        self._player = {field: player for player, fields in grouping.members.items() for field in fields}
        self._home: dict[str, tuple[str, ...]] = {}
        if not isinstance(given, Mapping):
            raise self._wrong()
        groups = [self._group(part, (name,)) for name, part in given.items()]
        self._names: Names = [*groups, *(unit for unit in self._units if unit not in self._home)]

    def hierarchy(self, players: Players, row: int) -> Hierarchy:
        """The hierarchy of the active players of row `row`, each named by its place among them."""
        places: dict[str, Hierarchy] = {}
        for block, tree in zip(players.blocks, players.hierarchies(row), strict=True):
            if isinstance(block, FieldBlock):
                places |= {name: [] for name in block.players}  # what the background has too is no player of this row
                places |= {block.players[player]: place for player, place in zip(block.active(row), players_in(tree), strict=True)}
            else:
                places[block.fields[0]] = tree

        def placed(names: Names) -> Hierarchy:
            return places[names] if isinstance(names, str) else [placed(part) for part in names]

        return placed(self._names)

    def _group(self, part: Any, path: tuple[str, ...]) -> Names:
        if isinstance(part, Mapping) and part:
            return [self._group(inner, (*path, str(name))) for name, inner in part.items()]
        if not isinstance(part, (list, tuple)) or not part or not all(isinstance(name, str) for name in part):
            raise self._wrong()
        units = [self._unit(name, path) for name in part]
        return [unit for place, unit in enumerate(units) if unit not in units[:place]]

    def _unit(self, name: str, path: tuple[str, ...]) -> str:
        unit = name if name in self._units else self._player.get(name)
        if unit is None:
            known = list(self._player)
            raise UsageError(
                f"Group '{path[-1]}' names '{name}', which is no input of this model.{nearest(name, known)}", hint=f"Inputs: {', '.join(known)}."
            )
        if self._home.setdefault(unit, path) != path:
            raise UsageError(f"'{name}' is in two groups, '{self._home[unit][-1]}' and '{path[-1]}'.", hint="Leave it in one of them.")
        return unit

    def _wrong(self) -> UsageError:
        return UsageError(
            f"Option 'hierarchy' of explainer '{self._method}' must be a mapping from a group's name to a list of fields, or to groups within it."
        )
