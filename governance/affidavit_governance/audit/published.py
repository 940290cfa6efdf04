"""The published form of a ledger: a signed checkpoint and tiles, and how to check them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from affidavit.errors import IntegrityError
from affidavit_governance.audit import tiles
from affidavit_governance.audit.merkle import Tree, leaf_hash
from affidavit_governance.audit.note import Checkpoint, VerifierKey, open_checkpoint


def read_folder(folder: Path, key: VerifierKey) -> tuple[Checkpoint, list[bytes]]:
    """`read_published` on a folder of files."""
    return read_published(lambda name: _read_file(folder, name), key)


def read_published(read: Callable[[str], bytes], key: VerifierKey) -> tuple[Checkpoint, list[bytes]]:
    """Give the checkpoint and the entries of a published ledger after checking the signature, and every tile against the tree they make.

    Parameters
    ----------
    read
        Gives the bytes under a name below the ledger's folder; raises KeyError where there are none.

    Raises
    ------
    IntegrityError
        Something was changed; the message names the file.
    """
    try:
        checkpoint = open_checkpoint(read(tiles.CHECKPOINT), key)
    except KeyError:
        raise IntegrityError("The ledger has no checkpoint.") from None
    except IntegrityError as error:
        raise IntegrityError(f"ledger/{tiles.CHECKPOINT}: {error.message}") from None
    wanted = list(tiles.tiles_of(checkpoint.size))
    content = {}
    for tile in wanted:
        try:
            content[tile] = read(tile.path)
        except KeyError:
            raise IntegrityError(f"The ledger lacks its file ledger/{tile.path}.") from None
    leaves: list[bytes] = []
    for tile in wanted:
        if tile.level is None:
            found = tiles.decode_entries(content[tile], f"ledger/{tile.path}")
            if len(found) != tile.width:
                raise IntegrityError(f"ledger/{tile.path} holds {len(found)} entries in the place of {tile.width}.")
            leaves += found
    tree = Tree(leaf_hash(leaf) for leaf in leaves)
    sound = tree.root() == checkpoint.root
    for tile in wanted:
        if tile.level == 0:
            _compare_level_zero(content[tile], tile, leaves, trusted=sound)
        elif tile.level is not None and content[tile] != tiles.tile_bytes(tree, tile):
            raise IntegrityError(f"ledger/{tile.path} was changed: its hashes are not those of the tree.")
    if not sound:
        raise IntegrityError(f"ledger/{tiles.CHECKPOINT} signs another root than the ledger's {checkpoint.size} entries have.")
    return checkpoint, leaves


def _compare_level_zero(data: bytes, tile: tiles.Tile, leaves: list[bytes], *, trusted: bool) -> None:
    first = tile.index * tiles.WIDTH
    expected = b"".join(leaf_hash(leaf) for leaf in leaves[first : first + tile.width])
    if data == expected:
        return
    if trusted or len(data) != len(expected):
        raise IntegrityError(f"ledger/{tile.path} was changed: its hashes are not those of the entries.")
    differing = next(n for n in range(tile.width) if data[32 * n : 32 * n + 32] != expected[32 * n : 32 * n + 32])
    entries = tiles.Tile(None, tile.index, tile.width).path
    raise IntegrityError(f"Ledger entry {first + differing} was changed: ledger/{entries} and ledger/{tile.path} differ there.")


def _read_file(root: Path, name: str) -> bytes:
    try:
        return (root / name).read_bytes()
    except FileNotFoundError:
        raise KeyError(name) from None
    except OSError as error:
        raise IntegrityError(f"ledger/{name} cannot be read: {error.strerror}.") from error
