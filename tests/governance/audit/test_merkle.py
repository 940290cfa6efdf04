"""Merkle trees against RFC 6962's published roots, independent vectors and brute force."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.errors import IntegrityError
from affidavit_governance.audit import verify_consistency, verify_inclusion
from affidavit_governance.audit.merkle import EMPTY_ROOT, Tree, leaf_hash

VECTORS = Path(__file__).resolve().parents[3] / "../shared/vectors/rfc6962/inclusion"
# The leaves and roots of the RFC 6962 reference implementation's tests.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def brute_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, straight from its definition."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + brute_root(leaves[:split]) + brute_root(leaves[split:])).digest()


def brute_inclusion(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*brute_inclusion(index, leaves[:split]), brute_root(leaves[split:])]
    return [*brute_inclusion(index - split, leaves[split:]), brute_root(leaves[:split])]


def brute_consistency(size: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if size == len(leaves):
        return [] if whole else [brute_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if size <= split:
        return [*brute_consistency(size, leaves[:split], whole), brute_root(leaves[split:])]
    return [*brute_consistency(size - split, leaves[split:], False), brute_root(leaves[:split])]


def hashes(count: int) -> list[bytes]:
    return [leaf_hash(bytes([n])) for n in range(count)]


def test_published_roots() -> None:
    tree = Tree(leaf_hash(leaf) for leaf in LEAVES)
    assert [tree.root(n).hex() for n in range(9)] == ROOTS


def test_published_inclusion_and_consistency_proofs() -> None:
    tree = Tree(leaf_hash(leaf) for leaf in LEAVES)
    # RFC 6962 section 2.1.3's shapes, values from the reference implementation's tests.
    assert [node.hex()[:16] for node in tree.inclusion_proof(5, 8)] == ["bc1a0643b12e4d2d", "ca854ea128ed050b", "d37ee418976dd957"]
    assert [node.hex()[:16] for node in tree.consistency_proof(6, 8)] == ["0ebc5d3437fbe2db", "ca854ea128ed050b", "d37ee418976dd957"]


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared vectors are not beside this checkout")
def test_independent_inclusion_vectors() -> None:
    files = sorted(VECTORS.rglob("*.json"))
    assert len(files) == 98
    for file in files:
        case = json.loads(file.read_text())
        root, leaf = base64.b64decode(case["root"]), base64.b64decode(case["leafHash"])
        proof = [base64.b64decode(node) for node in case["proof"] or []]
        if case["wantErr"]:
            with pytest.raises(IntegrityError):
                verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
        else:
            verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)


def test_inclusion_in_all_small_trees_agrees_with_brute_force() -> None:
    for size in range(1, 34):
        leaves = hashes(size)
        tree = Tree(leaves)
        assert tree.root() == brute_root(leaves)
        for index in range(size):
            proof = tree.inclusion_proof(index)
            assert proof == brute_inclusion(index, leaves)
            verify_inclusion(leaves[index], index, size, proof, tree.root())
            for other in range(size):
                if other != index:
                    with pytest.raises(IntegrityError):
                        verify_inclusion(leaves[index], other, size, proof, tree.root())


def test_consistency_of_all_small_trees_agrees_with_brute_force() -> None:
    leaves = hashes(33)
    tree = Tree(leaves)
    for size2 in range(34):
        for size1 in range(size2 + 1):
            proof = tree.consistency_proof(size1, size2)
            if 0 < size1 < size2:
                assert proof == brute_consistency(size1, leaves[:size2])
            verify_consistency(size1, size2, proof, tree.root(size1), tree.root(size2))
            for wrong in (proof[:-1], [*proof, EMPTY_ROOT], [EMPTY_ROOT, *proof], proof[1:]):
                if wrong != proof:
                    with pytest.raises(IntegrityError):
                        verify_consistency(size1, size2, wrong, tree.root(size1), tree.root(size2))
            if size1:
                for roots in ((EMPTY_ROOT, tree.root(size2)), (tree.root(size1), EMPTY_ROOT)):
                    with pytest.raises(IntegrityError):
                        verify_consistency(size1, size2, proof, *roots)


@given(st.data())
def test_a_changed_leaf_breaks_every_proof_that_covers_it(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 300))
    changed = data.draw(st.integers(0, size - 1))
    index = data.draw(st.integers(0, size - 1))
    before = data.draw(st.integers(1, size))
    leaves = hashes(256) + [leaf_hash(bytes([n, 1])) for n in range(44)]
    others = [*leaves[:changed], leaf_hash(b"forged"), *leaves[changed + 1 : size]]
    honest, forged = Tree(leaves[:size]), Tree(others)
    with pytest.raises(IntegrityError):
        verify_inclusion(others[index], index, size, forged.inclusion_proof(index), honest.root())
    if changed < before:
        with pytest.raises(IntegrityError):
            verify_consistency(before, size, forged.consistency_proof(before), honest.root(before), forged.root())


@given(st.integers(0, 70), st.integers(0, 70))
def test_truncating_undoes_appending(size: int, more: int) -> None:
    tree, leaves = Tree(hashes(size)), hashes(size + more)
    for leaf in leaves[size:]:
        tree.append(leaf)
    tree.truncate(size)
    for leaf in leaves[size:]:
        tree.append(leaf)
    assert tree.root() == brute_root(leaves)


@pytest.mark.parametrize("wrong", [b"", b"\x00" * 31, b"\x00" * 33, "00" * 16, None, bytearray(32)])
def test_everything_that_is_no_hash_of_32_bytes_is_refused(wrong: object) -> None:
    tree = Tree(hashes(3))
    proof = tree.inclusion_proof(1)
    for arguments in ((wrong, 1, 3, proof, tree.root()), (hashes(3)[1], 1, 3, [wrong, proof[1]], tree.root()), (hashes(3)[1], 1, 3, proof, wrong)):
        with pytest.raises(IntegrityError):
            verify_inclusion(*arguments)  # type: ignore[arg-type]  # the point of the test
    for pair in ((wrong, tree.root()), (tree.root(2), wrong)):
        with pytest.raises(IntegrityError):
            verify_consistency(2, 3, tree.consistency_proof(2), *pair)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(IntegrityError):
        tree.append(wrong)  # type: ignore[arg-type]  # the point of the test


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (4, 3), (0, 0), (True, 3), (1.0, 3), (1, "3"), (2**70, 2**71)])
def test_numbers_that_are_no_place_in_a_tree_are_refused(index: object, size: object) -> None:
    tree = Tree(hashes(3))
    with pytest.raises(IntegrityError):
        verify_inclusion(hashes(3)[1], index, size, tree.inclusion_proof(1), tree.root())  # type: ignore[arg-type]  # the point of the test


def test_an_earlier_tree_larger_than_the_later_is_refused() -> None:
    tree = Tree(hashes(4))
    with pytest.raises(IntegrityError):
        verify_consistency(4, 3, tree.consistency_proof(3), tree.root(), tree.root(3))
    with pytest.raises(IntegrityError):
        verify_consistency(0, 4, [], tree.root(), tree.root())
