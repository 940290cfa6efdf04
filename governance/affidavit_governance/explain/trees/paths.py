"""The paths from a tree's root to its leaves as conditions of players, and which of them rows meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affidavit_governance.explain.trees.ensemble import Ensemble

SLOTS_AT_ONCE = 2**13
"""Conditions of one block of leaves. It is the same whatever rows are explained, so that their sums are taken in the same order."""

_NODES_AT_ONCE = 2**12
"""Nodes whose comparisons with all rows stand in memory together."""

_TABLE = 32
"""A table of so many entries for each code costs less than sorting the codes."""


@dataclass(frozen=True, slots=True)
class PathBlock:
    """Leaves whose paths have the same number of players.

    Attributes
    ----------
    value
        Of each leaf.
    players
        Leaves × conditions: the player that each condition is about, ascending.
    kept
        Leaves × conditions: share of the training rows before the player's splits on the path that its turns keep (a product over splits).
    split, side
        Of every turn on the paths, sorted by leaf and player: the node, and 0 for a turn to the left, all bits set for one to the right.
    start
        Place of the first turn of each condition.
    """

    value: NDArray[np.float64]
    players: NDArray[np.int64]
    kept: NDArray[np.float64]
    split: NDArray[np.int64]
    side: NDArray[np.uint64]
    start: NDArray[np.int64]

    def patterns(self, turns: NDArray[np.uint64], rows: int) -> Patterns:
        """The distinct sets of conditions that rows fail, from their turns at all nodes (`packed_turns`)."""
        leaves, count = self.players.shape
        met = np.bitwise_and.reduceat(turns[self.split] ^ self.side[:, None], self.start, axis=0)
        failed = np.unpackbits((~met).view(np.uint8), axis=1, count=rows).reshape(leaves, count, rows)
        code: NDArray[np.int64] = np.repeat(np.arange(leaves)[:, None], rows, axis=1)
        size, packed = leaves, []
        for first in range(0, count, 8):
            bits = failed[:, first : first + 8]
            byte = bits[:, 0].copy()
            for place in range(1, bits.shape[1]):
                byte |= bits[:, place] << np.uint8(place)
            packed.append(byte.reshape(-1))
            code, size = distinct((code << bits.shape[1]) | byte, size << bits.shape[1])
        example = np.empty(size, dtype=np.int64)
        example[code.reshape(-1)] = np.arange(code.size)
        return Patterns(example // rows, np.stack([byte[example] for byte in packed], axis=1), count, code)


@dataclass(frozen=True, slots=True)
class Patterns:
    """The distinct patterns of a block, ordered by leaf.

    Attributes
    ----------
    leaf
        Of each pattern.
    packed
        The conditions that are not met as bits, patterns × bytes; the first condition is the lowest bit.
    count
        Conditions.
    of
        Leaves × rows: the row's pattern.
    """

    leaf: NDArray[np.int64]
    packed: NDArray[np.uint8]
    count: int
    of: NDArray[np.int64]

    def failed(self) -> NDArray[np.uint8]:
        """Patterns × conditions: 1 where a condition is not met."""
        return np.unpackbits(self.packed, axis=1, count=self.count, bitorder="little")

    def words(self) -> NDArray[np.unsignedinteger]:
        """The same as words of up to 64 bits, words × patterns."""
        width = self.packed.shape[1]
        word = next((size for size in (1, 2, 4) if width <= size), 8)
        padded = np.zeros((len(self.packed), -(-width // word) * word), dtype=np.uint8)
        padded[:, :width] = self.packed
        return np.ascontiguousarray(padded.view(f"u{word}").T)


def packed_turns(ensemble: Ensemble, matrix: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Whether each node sends each row to the left, as bits: nodes × words of 64 rows."""
    nodes, width = len(ensemble.feature), -(-len(matrix) // 8)
    padded = np.zeros((nodes, -(-width // 8) * 8), dtype=np.uint8)
    for start in range(0, nodes, _NODES_AT_ONCE):
        some = slice(start, min(start + _NODES_AT_ONCE, nodes))
        padded[some, :width] = np.packbits(ensemble.goes_left(matrix, some), axis=1)
    return padded.view(np.uint64)


def distinct(codes: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], int]:
    """Number the distinct ones of `codes`, all below `size`, in ascending order; the number of each code, and how many there are."""
    if size <= _TABLE * codes.size:
        seen = np.zeros(size, dtype=bool)
        seen[codes] = True
        rank = np.cumsum(seen) - 1
        return rank[codes], int(rank[-1]) + 1
    found, inverse = np.unique(codes, return_inverse=True)
    return inverse.reshape(codes.shape), len(found)


def path_blocks(ensemble: Ensemble, player_of_column: NDArray[np.int64]) -> Iterator[PathBlock]:
    """The leaves below at least one split, in blocks.

    Parameters
    ----------
    player_of_column
        Which player each matrix column belongs to.
    """
    leaf, split, left, kept = _turns(ensemble)
    player = player_of_column[ensemble.feature[split]]
    order = np.lexsort((player, leaf))
    leaf, split, left, kept, player = leaf[order], split[order], left[order], kept[order], player[order]
    first = np.flatnonzero(np.concatenate([[True], (leaf[1:] != leaf[:-1]) | (player[1:] != player[:-1])])) if len(leaf) else leaf
    turns = np.diff(np.append(first, len(leaf)))
    shares = np.multiply.reduceat(kept, first) if len(first) else kept
    side = np.where(left, np.uint64(0), ~np.uint64(0))
    conditions = np.bincount(leaf[first], minlength=len(ensemble.feature))
    begin = np.cumsum(conditions) - conditions
    for count in np.unique(conditions[conditions > 0]):
        members = np.flatnonzero(conditions == count)
        step = max(1, SLOTS_AT_ONCE // int(count))
        for chosen in (members[at : at + step] for at in range(0, len(members), step)):
            slots = begin[chosen][:, None] + np.arange(count)
            each = slots.reshape(-1)
            lengths = turns[each]
            start = np.cumsum(lengths) - lengths
            edges = np.repeat(first[each] - start, lengths) + np.arange(lengths.sum())
            yield PathBlock(ensemble.value[chosen], player[first[slots]], shares[slots], split[edges], side[edges], start)


def lone_leaves(ensemble: Ensemble) -> float:
    """What the trees that are a single leaf add to every row's score."""
    return float(ensemble.value[ensemble.roots[ensemble.feature[ensemble.roots] < 0]].sum())


def _turns(ensemble: Ensemble) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Every turn on the way to every leaf: the leaf, the node of the split, whether it is to the left, and the share of cover it keeps."""
    inner = np.flatnonzero(ensemble.feature >= 0)
    above = np.full(len(ensemble.feature), -1, dtype=np.int64)
    above[ensemble.left[inner]] = inner
    above[ensemble.right[inner]] = inner
    from_left = np.zeros(len(ensemble.feature), dtype=bool)
    from_left[ensemble.left[inner]] = True
    share = np.ones(len(ensemble.feature))
    below = np.flatnonzero(above >= 0)
    cover = ensemble.cover[above[below]]
    share[below] = np.divide(ensemble.cover[below], cover, out=np.zeros(len(below)), where=cover > 0)
    leaf = np.flatnonzero(ensemble.feature < 0)
    node = leaf
    found = []
    while len(node):
        split = above[node]
        leaf, node, split = leaf[split >= 0], node[split >= 0], split[split >= 0]
        found.append((leaf, split, from_left[node], share[node]))
        node = split
    leaves, splits, lefts, shares = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return leaves, splits, lefts, shares
