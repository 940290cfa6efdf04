"""The players that fit a case: words for texts, regions for tensors, fields for everything else."""

from __future__ import annotations

from affidavit.interfaces.schema import FieldType
from affidavit_governance.explain.case import Case
from affidavit_governance.explain.players.base import Block, Players
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.players.grouping import Grouping
from affidavit_governance.explain.players.regions import RegionBlock
from affidavit_governance.explain.players.words import WordBlock


def players_of(case: Case, *, grid: int = 4) -> Players:
    """One block for all plain fields, and one for each text and each tensor.

    A text or a tensor that is in a group of several fields is a field like the others.
    """
    blocks: list[Block] = []
    plain: dict[str, tuple[str, ...]] = {}
    for player, fields in case.grouping.members.items():
        kind = case.data.schema[fields[0]].type if len(fields) == 1 else None
        if kind is FieldType.TEXT:
            blocks.append(WordBlock(case.data, fields[0]))
        elif kind is FieldType.TENSOR:
            blocks.append(RegionBlock(case.data, case.background, fields[0], grid))
        else:
            plain[player] = fields
    if plain:
        blocks.insert(0, FieldBlock(case.data, case.background, Grouping(plain)))
    return Players(case.data.schema, blocks, len(case.background))
