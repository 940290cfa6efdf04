"""Merkle trees of RFC 6962: hashes, roots, proofs, and their verification (algorithms of RFC 9162, section 2.1)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from affidavit.errors import IntegrityError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 ‖ data), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing tree that keeps the hash of every complete subtree, so that appending and proving hash O(log n) nodes.

    Parameters
    ----------
    leaves
        Leaf hashes, 32 bytes each.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf in leaves:
            self.append(leaf)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash. Raises IntegrityError where it is not 32 bytes."""
        _check_hash(leaf, "leaf hash")
        node, level = leaf, 0
        while True:
            row = self._levels[level]
            row.append(node)
            if len(row) % 2:
                return
            node = node_hash(row[-2], row[-1])
            level += 1
            if level == len(self._levels):
                self._levels.append([])

    def truncate(self, size: int) -> None:
        """Forget all leaves from `size` on, as after a transaction that did not commit."""
        self._check_size(size)
        for level, row in enumerate(self._levels):
            del row[size >> level :]

    def node(self, level: int, index: int) -> bytes:
        """The hash of the complete subtree over leaves ``index·2^level`` to ``(index + 1)·2^level``."""
        return self._levels[level][index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, of all by default."""
        wanted = len(self) if size is None else size
        self._check_size(wanted)
        return self._range(0, wanted) if wanted else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int | None = None) -> list[bytes]:
        """The audit path of leaf `index` in the tree of the first `size` leaves (RFC 6962 section 2.1.1)."""
        end = len(self) if size is None else size
        self._check_size(end)
        if not 0 <= index < end:
            raise IntegrityError(f"There is no leaf {index} in a tree of {end}.")
        start, proof = 0, []
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start = middle
        return proof[::-1]

    def consistency_proof(self, size1: int, size2: int | None = None) -> list[bytes]:
        """The proof that the first `size1` leaves are a prefix of the first `size2` (RFC 6962 section 2.1.2)."""
        end = len(self) if size2 is None else size2
        self._check_size(end)
        if not 0 <= size1 <= end:
            raise IntegrityError(f"A tree of {size1} leaves is no prefix of a tree of {end}.")
        if size1 in (0, end):
            return []
        start, proof, whole = 0, [], True
        while size1 != end:
            middle = start + _split(end - start)
            if size1 <= middle:
                proof.append(self._range(middle, end))
                end = middle
            else:
                proof.append(self._range(start, middle))
                start, whole = middle, False
        return ([] if whole else [self._range(start, end)]) + proof[::-1]

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= len(self):
            raise IntegrityError(f"A tree of {len(self)} leaves has no state with {size}.")

    def _range(self, start: int, end: int) -> bytes:
        """The hash over leaves [start, end), where `start` is a multiple of the smallest power of two that holds the range."""
        count = end - start
        level = count.bit_length() - 1
        if count == 1 << level:
            return self._levels[level][start >> level]
        middle = start + _split(count)
        return node_hash(self._range(start, middle), self._range(middle, end))


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf stands at `index` of the tree with `size` leaves and root hash `root` (RFC 9162 section 2.1.3.2).

    Parameters
    ----------
    leaf_hash, root
        32 bytes each.
    proof
        The audit path from the leaf upwards, 32 bytes each.

    Raises
    ------
    IntegrityError
        Anything is wrong: an index outside the tree, a hash of another length, a path that is too short, too long or leads to another root.
    """
    _check_numbers(index, size)
    if index >= size:
        raise IntegrityError(f"Inclusion proof: there is no leaf {index} in a tree of {size}.")
    _check_hash(leaf_hash, "leaf hash")
    _check_hash(root, "root")
    _check_proof(proof)
    position, last, node = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise IntegrityError(f"The inclusion proof of leaf {index} in a tree of {size} is too long.")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise IntegrityError(f"The inclusion proof of leaf {index} in a tree of {size} is too short.")
    if not hmac.compare_digest(node, root):
        raise IntegrityError(f"The inclusion proof of leaf {index} in a tree of {size} leads to another root.")


def verify_consistency(size1: int, size2: int, proof: Sequence[bytes], root1: bytes, root2: bytes) -> None:
    """Check that the tree with `size1` leaves and `root1` is a prefix of the tree with `size2` and `root2` (RFC 9162 section 2.1.4.2).

    The empty tree is a prefix of every tree, with an empty proof.

    Raises
    ------
    IntegrityError
        Anything is wrong: sizes out of order, a hash of another length, a proof that is too short, too long or leads to other roots.
    """
    _check_numbers(size1, size2)
    _check_hash(root1, "first root")
    _check_hash(root2, "second root")
    _check_proof(proof)
    if size1 > size2:
        raise IntegrityError(f"Consistency proof: a tree of {size1} leaves is no prefix of a tree of {size2}.")
    for size, root in ((size1, root1), (size2, root2)):
        if size == 0 and root != EMPTY_ROOT:
            raise IntegrityError("Consistency proof: the root of the empty tree is the SHA-256 of nothing.")
    if size1 in (0, size2):
        if proof:
            raise IntegrityError(f"The consistency proof from {size1} to {size2} leaves must be empty.")
        if size1 == size2 and root1 != root2:
            raise IntegrityError(f"Two trees of {size1} leaves have different roots.")
        return
    found1, found2 = _climb(size1, size2, proof, root1)
    if not (hmac.compare_digest(found1, root1) and hmac.compare_digest(found2, root2)):
        raise IntegrityError(f"The consistency proof from {size1} to {size2} leaves leads to other roots.")


def _climb(size1: int, size2: int, proof: Sequence[bytes], root1: bytes) -> tuple[bytes, bytes]:
    """The two roots that a consistency proof leads to, for 0 < size1 < size2."""
    path = list(proof)
    if size1 & (size1 - 1) == 0:
        path.insert(0, root1)  # a complete first tree is its own starting node and is left out of the proof
    if not path:
        raise IntegrityError(f"The consistency proof from {size1} to {size2} leaves is too short.")
    position, last = size1 - 1, size2 - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            raise IntegrityError(f"The consistency proof from {size1} to {size2} leaves is too long.")
        if position & 1 or position == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, node)
        position >>= 1
        last >>= 1
    if last != 0:
        raise IntegrityError(f"The consistency proof from {size1} to {size2} leaves is too short.")
    return old, new


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _check_numbers(*numbers: int) -> None:
    # bool is an int to Python, and True would pass for 1.
    if any(type(number) is not int or number < 0 for number in numbers):
        raise IntegrityError("A proof's index and sizes are integers from zero.")


def _check_proof(proof: Sequence[bytes]) -> None:
    if not isinstance(proof, (list, tuple)):
        raise IntegrityError("A proof is a list of hashes.")
    for node in proof:
        _check_hash(node, "hash in the proof")


def _check_hash(value: bytes, what: str) -> None:
    if not isinstance(value, bytes) or len(value) != HASH_BYTES:
        raise IntegrityError(f"A {what} has {HASH_BYTES} bytes.")
