"""Encoded columns and the fields that they come from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError
from affidavit.interfaces.model import EncodedView


def membership(view: EncodedView, players: tuple[str, ...]) -> NDArray[np.float64]:
    """Columns × players: one where the column comes from the player, so that a field's one-hot columns add up to it."""
    member = np.zeros((len(view.players), len(players)))
    for column, player in enumerate(view.players):
        if player not in players:
            raise PluginError(f"The encoded view names the field '{player}', which is not among the model's inputs.")
        member[column, players.index(player)] = 1.0
    return member
