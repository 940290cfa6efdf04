"""Masked fields are one player: no explanation that tells them apart leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from affidavit.errors import PluginError
from affidavit.interfaces.explanation import Explanation
from affidavit.interfaces.schema import Field
from affidavit_governance.explain.players.grouping import grouped


def check_masked(inputs: Sequence[Field], groups: Mapping[str, Sequence[str]], explanation: Explanation) -> None:
    """Refuse players that tell masked fields apart.

    Where several inputs are masked, each player must be a field, a part of a field (``"text [3]"``) or a group, as `grouped` puts them
    together. A name that is none of these could hide a masked field and is refused too. An explainer that gives a wrong name to what it
    measured cannot be found out here.

    Raises
    ------
    PluginError
        A player is a masked field, or is no known player.
    """
    grouping = grouped(inputs, groups)
    masked = [field.name for field in inputs if field.masked is not None and field.masked not in ("spans", "keep")]
    if len(masked) < 2:
        return
    together = grouping.names[grouping.player_of(masked[0])]
    apart = [name for name in masked if name != together]
    alone = [fields[0] for player, fields in grouping.members.items() if len(fields) == 1 and player != together]
    hint = "An explainer that takes the option 'groups' gets the players from governance (see Explainer.accepts)."
    for player in explanation.players:
        if player in grouping.members:
            continue
        field = next((name for name in [*apart, together] if player == name or player.startswith(f"{name} ")), None)
        if field is not None:
            raise PluginError(f"Explainer '{explanation.method}' tells the masked field '{field}' apart from the other masked fields.", hint=hint)
        if not any(player.startswith(f"{name} ") for name in alone):
            raise PluginError(f"Explainer '{explanation.method}' names a player '{player}', which is no input of this model.", hint=hint)
    if explanation.details.get("groups", {}).get(together) is None:
        raise PluginError(f"Explainer '{explanation.method}' does not say that '{together}' is all the masked fields.", hint=hint)
