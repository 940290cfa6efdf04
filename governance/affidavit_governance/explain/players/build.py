"""The players that fit a case: words for texts, regions for tensors, fields for everything else, or what the caller asks for."""

from __future__ import annotations

from typing import Any

from affidavit.errors import UsageError
from affidavit_governance.explain.case import Case
from affidavit_governance.explain.players.base import Block, Players
from affidavit_governance.explain.players.cutting import cut
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.players.grouping import Grouping
from affidavit_governance.explain.players.items import ItemBlock
from affidavit_governance.explain.players.options import PLAYER_OPTIONS, REGIONS, PlayerOptions
from affidavit_governance.explain.players.regions import RegionBlock
from affidavit_governance.explain.players.words import ABSENT, WordBlock

__all__ = ["PLAYER_OPTIONS", "players_of"]


def players_of(case: Case, *, method: str = "game") -> Players:
    """One block for all plain fields, and one for each text, tensor and history, as the case's own options say.

    A text or a tensor that is in a group of several fields is a field like the others.

    Raises
    ------
    UsageError
        An option is unfit, or asks for the words or regions of a field that is a player together with others; the message names `method`.
    """
    options = PlayerOptions.read(method, case.options.own, case.data.schema)
    blocks: list[Block] = []
    kinds: dict[str, str] = {}
    plain: dict[str, tuple[str, ...]] = {}
    for player, fields in case.grouping.members.items():
        name, alone = fields[0], len(fields) == 1
        kind = options.kind(name, case.data.schema[name].type) if alone else "field"
        _check_group(player, fields, kind, options)
        if kind == "field":
            plain[player] = fields
            if options.players.get(name) == "field" and alone:
                kinds[name] = kind
        else:
            blocks.append(_block(case, name, kind, options))
            kinds[name] = kind
    if plain:
        blocks.insert(0, FieldBlock(case.data, case.background, Grouping(plain)))
    return Players(case.data.schema, blocks, len(case.background), _details(case, kinds, options))


def _check_group(player: str, fields: tuple[str, ...], kind: str, options: PlayerOptions) -> None:
    for name in fields:
        if options.players.get(name, kind) != kind:
            raise UsageError(f"'{name}' is in the group '{player}', which is one player, so it has no {options.players[name]} of its own.")


def _block(case: Case, name: str, kind: str, options: PlayerOptions) -> Block:
    if kind == "words":
        return WordBlock(case.data, name)
    if kind == "items":
        return ItemBlock(case.data, name)
    return RegionBlock(case.data, case.background, name, cut(case.data.to_numpy(name), name, kind, options), options.fill)


def _details(case: Case, kinds: dict[str, str], options: PlayerOptions) -> dict[str, Any]:
    """What is recorded: the options that had a say, and the shapes of what was cut, from which a picture finds the regions again."""
    details: dict[str, Any] = {"players": kinds} if kinds else {}
    if "words" in kinds.values():
        details["absent"] = ABSENT
    cut_up = {name: list(case.data.schema[name].shape or ()) for name, kind in kinds.items() if kind in REGIONS}
    if cut_up:
        details |= {"grid": options.grid, "fill": options.fill, "shapes": cut_up}
    if "segments" in kinds.values():
        details |= {"cuts": options.cuts, "rate": options.rate}
    return details
