"""Writing the bundle: the one file that an auditor gets."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from affidavit.store import write_atomic
from affidavit_governance.audit import container, verify
from affidavit_governance.audit.dsse import canonical_json, read_statement, seal_statement, statement, subjects
from affidavit_governance.audit.evidence import now, software
from affidavit_governance.audit.merkle import Tree
from affidavit_governance.audit.note import VerifierKey, open_checkpoint
from affidavit_governance.audit.records import Entry, evidence_name
from affidavit_governance.audit.recovery import read_stored_segment
from affidavit_governance.audit.tables import HEAD, checkpoints

README = """This is an audit bundle made by Affidavit.

Verify it, on any machine, with the core install alone and no network:

    pip install affidavit
    affidavit verify {name} --key KEY

KEY is the verifier key of the workspace. Get it from the workspace's owner by another road than this file: a key that came with the
bundle proves nothing about who made it. For comparison, this bundle says that it was signed by

    {key}

manifest.json          signed list of the SHA-256 of every other file (in-toto statement in a DSSE envelope)
checkpoint             signed state of the ledger: size and Merkle root (C2SP signed note)
leaves.jsonl           the ledger's entries, one a line: kind and SHA-256 of the evidence
evidence/NNNNNN.json   the evidence of each entry (in-toto statement in a DSSE envelope)
proofs/                inclusion proofs of all entries, consistency proofs from the checkpoints of earlier bundles
checkpoints/           the checkpoints of earlier bundles
journal/               lines of the prediction journals; their digests are keyed, so that inputs cannot be guessed from them
policy.json            the policy in force when the bundle was made
report.html            the report, where one was made
"""


def write_bundle(workspace: Any, path: str | Path, *, report_html: str | None) -> Path:
    """Write the bundle of a workspace's whole ledger; the file appears whole or not at all.

    The bytes are determined by the ledger, the policy, the report and the time of writing. Seal the journals first
    (`Ledger.seal_journals`): lines that are not sealed are not in the ledger yet.

    Parameters
    ----------
    report_html
        The report to put in, or None.

    Raises
    ------
    IntegrityError
        The ledger or a stored journal was changed.
    AffidavitError
        The file cannot be written.
    UsageError
        The ledger is too large for one bundle (65,535 files or 2 GiB).
    """
    target = Path(path)
    store, keyring = workspace.store, workspace.keyring
    key = VerifierKey.parse(keyring.verifier_key)
    note, pairs, tree = workspace.ledger.snapshot()
    size = len(pairs)
    files = {
        verify.README: README.format(name=target.name, key=key).encode(),
        verify.CHECKPOINT: note,
        verify.LEAVES: b"".join(leaf + b"\n" for leaf, _ in pairs),
        verify.POLICY: workspace.policy.model_dump_json().encode(),
        verify.INCLUSION: canonical_json([[node.hex() for node in tree.inclusion_proof(index, size)] for index in range(size)]),
        **{evidence_name(index): envelope for index, (_, envelope) in enumerate(pairs)},
        **_journal_files(workspace, pairs),
        **_earlier(workspace, key, size, tree),
    }
    if report_html is not None:
        files[verify.REPORT] = report_html.encode()
    predicate = {"workspace": store.workspace_id, "key": str(key), "size": size, "created": now(), "software": software()}
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = statement(listed, verify.BUNDLE_TYPE, predicate)
    files[verify.MANIFEST] = seal_statement(manifest, key_id=key.key_id.hex(), sign=keyring.sign)
    data = container.encode(files)
    _record_checkpoint(workspace, size, note)
    write_atomic(target, data)
    return target


def _journal_files(workspace: Any, pairs: list[tuple[bytes, bytes]]) -> dict[str, bytes]:
    files = {}
    for leaf, envelope in pairs:
        if Entry.decode(leaf, "A ledger entry").kind == "predict":
            (digest,) = subjects(read_statement(envelope, "A journal's evidence", None)).values()
            lines = read_stored_segment(workspace.store, workspace.keyring, digest)
            if lines is not None:
                files[f"journal/{digest}.txt"] = lines
    return files


def _earlier(workspace: Any, key: VerifierKey, size: int, tree: Tree) -> dict[str, bytes]:
    """The checkpoints that earlier bundles handed out, and the proofs that this ledger goes on from them."""
    with workspace.store.read() as connection:
        query = sa.select(checkpoints.c.note).where(checkpoints.c.name != HEAD, checkpoints.c.size < size)
        notes = [bytes(note) for note in connection.execute(query).scalars()]
    files, proofs = {}, {}
    for note in notes:
        before = open_checkpoint(note, key)
        name = f"checkpoints/{before.size:06d}"
        files[name] = note
        proofs[name] = [node.hex() for node in tree.consistency_proof(before.size, size)]
    files[verify.CONSISTENCY] = canonical_json(proofs)
    return files


def _record_checkpoint(workspace: Any, size: int, note: bytes) -> None:
    name = f"bundle-{size}"
    with workspace.store.write() as connection:
        if connection.execute(sa.select(checkpoints.c.name).where(checkpoints.c.name == name)).first() is None:
            connection.execute(checkpoints.insert().values(name=name, size=size, note=note))
