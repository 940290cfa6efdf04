"""Which fields are one player together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError, UsageError, nearest
from affidavit.interfaces.schema import Field

MASKED = "masked fields"
"""The player that all masked fields are together: an attribution to one of them alone would tell of the value that its mask hides."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Players and the fields of each, in the order of each player's first field.

    Attributes
    ----------
    members
        The fields of each player.
    """

    members: Mapping[str, tuple[str, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """The players."""
        return tuple(self.members)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields, player by player."""
        return tuple(chain.from_iterable(self.members.values()))

    def player_of(self, field: str) -> int:
        """The player that `field` belongs to, as a place in `names`."""
        for index, fields in enumerate(self.members.values()):
            if field in fields:
                return index
        raise PluginError(f"The field '{field}' is not among the explained inputs.")

    def membership(self, columns: Sequence[str]) -> NDArray[np.float64]:
        """Columns × players: one where the column, given by the field that it comes from, is the player's, so that its attributions add up to it."""
        member = np.zeros((len(columns), len(self.members)))
        for column, field in enumerate(columns):
            member[column, self.player_of(field)] = 1.0
        return member


def is_masked(field: Field) -> bool:
    """Whether the whole value is masked, rather than spans inside a text."""
    return field.masked is not None and field.masked not in ("spans", "keep")


def grouped(fields: Sequence[Field], groups: Mapping[str, Sequence[str]]) -> Grouping:
    """Each field a player, but for the given groups and the masked fields, which are one.

    A group with a masked field takes in all the masked fields.

    Raises
    ------
    UsageError
        A group names a field that is no input or is in another group, or has the name of a field outside it.
    """
    known = [field.name for field in fields]
    home: dict[str, str] = {}
    for group, names in groups.items():
        for name in names:
            if name not in known:
                raise UsageError(
                    f"Group '{group}' names '{name}', which is no input of this model.{nearest(name, known)}", hint=f"Inputs: {', '.join(known)}."
                )
            if name in home:
                raise UsageError(f"The field '{name}' is in two groups, '{home[name]}' and '{group}'.", hint="Leave it in one of them.")
            home[name] = group
        if group in known and group not in names:
            raise UsageError(f"A group cannot be called '{group}': that is a field outside it.", hint="Give the group another name.")
    masked = [field.name for field in fields if is_masked(field)]
    if len(masked) > 1:
        takers = {home[name] for name in masked if name in home}
        player = min(takers) if takers else MASKED
        home = {name: player if group in takers else group for name, group in home.items()} | dict.fromkeys(masked, player)
    members: dict[str, list[str]] = {}
    for name in known:
        members.setdefault(home.get(name, name), []).append(name)
    return Grouping({player: tuple(names) for player, names in members.items()})
