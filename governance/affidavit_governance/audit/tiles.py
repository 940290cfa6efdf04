"""Where a ledger's hashes and entries stand on disk: C2SP tlog-tiles (c2sp.org/tlog-tiles).

``tile/<level>/<n>`` holds 256 hashes of tree level 8·level, ``tile/entries/<n>`` holds 256 entries, each after its length as uint16. ``<n>``
is written in groups of three digits, all but the last with an ``x``. An incomplete tile carries its width: ``000.p/12``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from affidavit.errors import IntegrityError
from affidavit_governance.audit.merkle import Tree

WIDTH = 256
MAX_ENTRY = 0xFFFF
CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: hashes of a level, or (level None) entries.

    Attributes
    ----------
    index
        Its number at its level.
    width
        How many hashes or entries it holds, 1 to 256.
    """

    level: int | None
    index: int
    width: int

    @property
    def path(self) -> str:
        """Its name below the ledger's folder."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.insert(0, f"x{rest % 1000:03d}")
            rest //= 1000
        partial = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{'entries' if self.level is None else self.level}/{'/'.join(groups)}{partial}"


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """The tiles that a tree of `size` leaves has and a tree of `since` leaves had not, entries first."""
    for level in (None, *range(8)):
        count, before = (size, since) if level is None else (size >> 8 * level, since >> 8 * level)
        for index in range(before // WIDTH, -(-count // WIDTH)):
            width = min(WIDTH, count - index * WIDTH)
            if index * WIDTH + width > before:
                yield Tile(level, index, width)


def tile_bytes(tree: Tree, tile: Tile) -> bytes:
    """The content of a tile of hashes."""
    assert tile.level is not None
    first = tile.index * WIDTH
    return b"".join(tree.node(8 * tile.level, first + n) for n in range(tile.width))


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry after its length as a big-endian uint16."""
    if any(len(entry) > MAX_ENTRY for entry in entries):
        raise IntegrityError(f"A ledger entry has at most {MAX_ENTRY} bytes.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(data: bytes, what: str) -> list[bytes]:
    """Read an entry bundle. Raises IntegrityError, naming `what`, where a length does not fit."""
    entries, position = [], 0
    while position < len(data):
        start = position + 2
        position = start + int.from_bytes(data[position:start], "big")
        if start > len(data) or position > len(data):
            raise IntegrityError(f"{what} is cut short or was changed.")
        entries.append(data[start:position])
    return entries
