"""Verify what a workspace hands out, offline: a bundle, or the published ledger. Standard library and ``cryptography`` only."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affidavit.errors import IntegrityError, UsageError
from affidavit_governance.audit import container
from affidavit_governance.audit.certificate import recompute
from affidavit_governance.audit.dsse import read_canonical, read_statement, subjects
from affidavit_governance.audit.merkle import Tree, leaf_hash, verify_consistency, verify_inclusion
from affidavit_governance.audit.note import Checkpoint, VerifierKey, open_checkpoint
from affidavit_governance.audit.published import read_folder
from affidavit_governance.audit.records import Entry, check_evidence, evidence_name
from affidavit_governance.audit.signers import check_signers
from affidavit_governance.audit.story import Story, check_segment, read_story

BUNDLE_TYPE = "urn:affidavit:bundle:v1"
MANIFEST, README, CHECKPOINT, LEAVES, POLICY, REPORT = "manifest.json", "README.txt", "checkpoint", "leaves.jsonl", "policy.json", "report.html"
INCLUSION, CONSISTENCY = "proofs/inclusion.json", "proofs/consistency.json"


@dataclass(frozen=True, slots=True)
class Check:
    """One check that held."""

    name: str
    detail: str


@dataclass(slots=True)
class VerificationReport:
    """What was checked and held. A check that fails raises IntegrityError, so a report never holds a failure.

    Attributes
    ----------
    path
        What was verified.
    status
        ``verified``, or ``unanchored`` where no key was given and signatures could only be checked against the key that the file itself
        carries: it is then consistent in itself, but anybody could have made it.
    ok
        Whether to accept it: verified, or unanchored where the caller allows that.
    checks
        What was checked, in order.
    not_checked
        What could not be checked from this file, in words.
    counts
        Entries by kind, outcomes, files, predictions.
    privacy
        The privacy statements in the evidence, each with the ``bracket`` in which its ε must lie by its own events ([low, high], computed
        here with a second implementation; None where it could not be) and a ``remark``.
    """

    path: str
    status: str
    ok: bool
    key: str
    checks: list[Check] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    counts: dict[str, Any] = field(default_factory=dict)
    privacy: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, detail: str) -> None:
        """Note a check that held."""
        self.checks.append(Check(name, detail))

    def to_json(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {
            "path": self.path,
            "status": self.status,
            "ok": self.ok,
            "key": self.key,
            "checks": [{"name": check.name, "detail": check.detail} for check in self.checks],
            "not_checked": list(self.not_checked),
            "counts": dict(self.counts),
            "privacy": list(self.privacy),
        }

    def __str__(self) -> str:
        lines = [f"ok    {check.name}: {check.detail}" for check in self.checks]
        # As JSON: what a bundle says could hold control characters, and this goes to terminals.
        lines += [_privacy_line(said) for said in self.privacy]
        lines += [f"note  not checked: {text}" for text in self.not_checked]
        if self.status == "verified":
            lines.append(f"{self.path} verifies with the key {self.key}")
        else:
            lines.append(f"UNANCHORED: {self.path} is consistent in itself, but was checked only against the key it carries, {self.key}.")
            lines.append("Anybody could have made it. Get the key from the workspace's owner by another road and pass it with --key.")
        return "\n".join(lines)


def _privacy_line(said: Mapping[str, Any]) -> str:
    line = f"note  stated in evidence {said['entry']}: epsilon {json.dumps(said['epsilon'])}, delta {json.dumps(said.get('delta'))}"
    if said["bracket"] is not None:
        low, high = said["bracket"]
        line += f"; computed again: between {low:.4f} and {high:.4f}"
    return f"{line} ({said['remark']})" if said["remark"] else line


def verify_bundle(path: str | Path, key: str | None = None, *, allow_unanchored: bool = False) -> VerificationReport:
    """Verify a bundle file, or the published ledger of a workspace folder.

    Parameters
    ----------
    path
        A bundle, a workspace folder, or its ledger folder.
    key
        The workspace's verifier key (``name+hash+base64``), or a file that holds it, received by another road than the bundle.
    allow_unanchored
        Accept a bundle without a key. The report's status says ``unanchored`` all the same.

    Raises
    ------
    IntegrityError
        A check failed; the message names the file, or the container.
    UsageError
        There is nothing to read, or a folder is verified without a key.
    """
    target = Path(path)
    anchor = None if key is None else _read_key(key)
    if target.is_dir():
        if anchor is None:
            raise UsageError("A ledger folder carries no key of its own.", hint="Pass the workspace's key with --key.")
        return _verify_folder(target, anchor)
    try:
        if target.stat().st_size > container.MAX_BYTES:
            raise IntegrityError(f"'{target}' is larger than a bundle can be.")
        data = target.read_bytes()
    except OSError as error:
        raise UsageError(f"'{target}' cannot be read: {error.strerror}.", hint="Check the path.") from error
    return _verify_files(str(target), data, anchor, allow_unanchored)


def _read_key(key: str) -> VerifierKey:
    if key.count("+") < 2:
        try:
            if Path(key).is_file():
                key = Path(key).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"The key file '{key}' cannot be read ({type(error).__name__}).") from error
    return VerifierKey.parse(key)


# -- a bundle ------------------------------------------------------------------------------------------------------------------------


def _verify_files(path: str, data: bytes, anchor: VerifierKey | None, allow_unanchored: bool) -> VerificationReport:
    files = container.decode(data)
    manifest, key = _check_manifest(files, anchor)
    status = "unanchored" if anchor is None else "verified"
    report = VerificationReport(path, status, anchor is not None or allow_unanchored, str(key))
    report.add("manifest", f"signed by {key.name}+{key.key_id.hex()}")
    _check_digests(files, subjects(manifest))
    # Last of the three, so that a change inside a file is put down to that file.
    if container.encode(files) != data:
        raise IntegrityError("The bundle's container was changed: it is not, byte for byte, what its files make.")
    report.add("files", f"{len(files) - 1} files match the manifest's SHA-256, and the container holds nothing else")
    predicate = manifest["predicate"]
    entries, checkpoint = _check_ledger(files, key, predicate, report)
    story = _check_evidence(files, entries, key, str(predicate["workspace"]), report)
    _check_privacy(story, report)
    _check_segments(files, story, report)
    _check_policy(files, story, report)
    _check_names(files, len(entries), story)
    report.counts.update(files=len(files), size=checkpoint.size, root=checkpoint.root.hex())
    report.not_checked += [
        "that the statements are true: signatures show who said what and when it entered the ledger, not that a figure is right",
        "the figures in report.html",
        "whether entries were added after this bundle was made",
    ]
    return report


def _check_manifest(files: Mapping[str, bytes], anchor: VerifierKey | None) -> tuple[dict[str, Any], VerifierKey]:
    if MANIFEST not in files:
        raise IntegrityError(f"The bundle's container holds no {MANIFEST}.")
    claimed = read_statement(files[MANIFEST], MANIFEST, None)
    predicate = claimed["predicate"]
    if claimed["predicateType"] != BUNDLE_TYPE or not isinstance(predicate.get("key"), str) or not isinstance(predicate.get("workspace"), str):
        raise IntegrityError(f"{MANIFEST} is no bundle manifest of a version that this Affidavit reads.")
    try:
        carried = VerifierKey.parse(predicate["key"])
    except IntegrityError as error:
        raise IntegrityError(f"{MANIFEST}: {error.message}") from None
    if anchor is not None and carried != anchor:
        raise IntegrityError(
            f"{MANIFEST} says that it is signed by the key {carried}, and the key given is {anchor}: the wrong key, or a changed bundle.",
            hint="Compare with the key that the workspace's owner shows.",
        )
    return read_statement(files[MANIFEST], MANIFEST, carried), carried


def _check_digests(files: Mapping[str, bytes], listed: Mapping[str, str]) -> None:
    for name, digest in listed.items():
        if name not in files:
            raise IntegrityError(f"The bundle's container lacks the file '{name}', which the manifest lists.")
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise IntegrityError(f"{name} was changed: its SHA-256 is not the one in the manifest.")
    for name in files:
        if name not in listed and name != MANIFEST:
            raise IntegrityError(f"The bundle's container holds '{name}', which the manifest does not list.")


def _check_ledger(
    files: Mapping[str, bytes], key: VerifierKey, predicate: Mapping[str, Any], report: VerificationReport
) -> tuple[list[Entry], Checkpoint]:
    checkpoint = _open_checkpoint(files, CHECKPOINT, key)
    lines = _need(files, LEAVES).splitlines()
    tree = Tree(leaf_hash(line) for line in lines)
    if len(tree) != checkpoint.size or tree.root() != checkpoint.root or predicate.get("size") != checkpoint.size:
        raise IntegrityError(f"{LEAVES} does not lead to the root that the checkpoint signs for {checkpoint.size} entries.")
    entries = [Entry.decode(line, f"{LEAVES}, entry {n}") for n, line in enumerate(lines)]
    report.add("checkpoint", f"signed; {checkpoint.size} entries lead to root {checkpoint.root.hex()[:16]}…")
    inclusion = read_canonical(_need(files, INCLUSION), INCLUSION)
    if not isinstance(inclusion, list) or len(inclusion) != checkpoint.size:
        raise IntegrityError(f"{INCLUSION} has not one proof for each entry.")
    for index, line in enumerate(lines):
        verify_inclusion(leaf_hash(line), index, checkpoint.size, _hashes(inclusion[index], INCLUSION), checkpoint.root)
    report.add("inclusion proofs", f"{len(inclusion)} hold")
    consistency = read_canonical(_need(files, CONSISTENCY), CONSISTENCY)
    earlier = sorted(name for name in files if name.startswith("checkpoints/"))
    if not isinstance(consistency, dict) or sorted(consistency) != earlier:
        raise IntegrityError(f"{CONSISTENCY} has not one proof for each earlier checkpoint.")
    for name in earlier:
        before = _open_checkpoint(files, name, key)
        verify_consistency(before.size, checkpoint.size, _hashes(consistency[name], CONSISTENCY), before.root, checkpoint.root)
    report.add("consistency proofs", f"{len(earlier)} earlier checkpoints are prefixes of this ledger" if earlier else "no earlier bundle was made")
    return entries, checkpoint


def _check_evidence(files: Mapping[str, bytes], entries: list[Entry], key: VerifierKey, workspace: str, report: VerificationReport) -> Story:
    statements = []
    for index, entry in enumerate(entries):
        name = evidence_name(index)
        statements.append((entry.kind, check_evidence(entry, _need(files, name), name, key)))
    report.add("evidence", f"{len(entries)} statements are signed and are those in the ledger")
    story = read_story(statements, workspace)
    ends = ", ".join(f"{count} {status}" for status, count in sorted(story.outcomes.items())) or "none"
    report.add("calls", f"every outcome follows its intent ({ends})")
    if signed := check_signers(statements):
        listed = " and ".join(f"{count} calls of kind '{kind}'" for kind, count in sorted(signed.items()))
        report.add("people", f"{listed} are signed by people who were enrolled before")
    if story.open_calls:
        running = sorted(story.open_calls.values())
        report.not_checked.append(f"{len(running)} calls that had not ended when the bundle was made (entries {running})")
    if story.keys:
        done = Counter(said["action"] for said in story.keys)
        report.add("keys", f"versions count up by one ({', '.join(f'{number} {action}' for action, number in sorted(done.items()))})")
    report.counts.update(kinds=dict(story.kinds), outcomes=dict(story.outcomes), predictions=story.predictions)
    return story


def _check_privacy(story: Story, report: VerificationReport) -> None:
    """Compute every stated ε again from the events beside it."""
    report.privacy = [{**said, **recompute(said, evidence_name(said["entry"]))} for said in story.privacy]
    brackets = sum(said["bracket"] is not None for said in report.privacy)
    if brackets:
        report.add("privacy", f"{brackets} stated epsilons are not below what their own events cost, computed again with a second implementation")
    unknown = [said["entry"] for said in report.privacy if said["bracket"] is None and said["epsilon"] is not None]
    if unknown:
        report.not_checked.append(f"the epsilon stated in entries {unknown}: each says above why it could not be computed again")


def _check_segments(files: Mapping[str, bytes], story: Story, report: VerificationReport) -> None:
    absent = 0
    for digest, segment in story.segments.items():
        name = f"journal/{digest}.txt"
        if name not in files:
            absent += 1
            continue
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise IntegrityError(f"{name} is not the journal segment that its evidence names.")
        check_segment(files[name], segment, name)
    report.add("prediction journals", f"{story.predictions} calls, counted without a gap in {len(story.segments)} sealed segments")
    if absent:
        report.not_checked.append(f"the lines of {absent} journal segments, which are not in the bundle")
    if story.segments:
        report.not_checked.append("the keyed digests and chain in the journals: they need the workspace's key")


def _check_policy(files: Mapping[str, bytes], story: Story, report: VerificationReport) -> None:
    digest = hashlib.sha256(_need(files, POLICY)).hexdigest()
    under = story.policies.pop(digest, 0)
    report.add("policy", f"{under} statements were made under {POLICY}")
    if story.policies:
        report.not_checked.append(f"{story.policies.total()} statements under {len(story.policies)} other policies, which are not in the bundle")


def _check_names(files: Mapping[str, bytes], size: int, story: Story) -> None:
    """Even the owner's key may not sign in a file that nothing checks."""
    expected = {MANIFEST, README, CHECKPOINT, LEAVES, POLICY, REPORT, INCLUSION, CONSISTENCY}
    expected |= {evidence_name(index) for index in range(size)} | {f"journal/{digest}.txt" for digest in story.segments}
    for name in files:
        if name not in expected and not name.startswith("checkpoints/"):
            raise IntegrityError(f"'{name}' is no part of a bundle.")


def _need(files: Mapping[str, bytes], name: str) -> bytes:
    if name not in files:
        raise IntegrityError(f"The bundle's container lacks the file '{name}'.")
    return files[name]


def _open_checkpoint(files: Mapping[str, bytes], name: str, key: VerifierKey) -> Checkpoint:
    try:
        return open_checkpoint(_need(files, name), key)
    except IntegrityError as error:
        raise IntegrityError(f"{name}: {error.message}") from None


def _hashes(value: Any, what: str) -> list[bytes]:
    try:
        return [bytes.fromhex(item) for item in value]
    except (TypeError, ValueError):
        raise IntegrityError(f"{what} holds something else than hashes.") from None


def _verify_folder(folder: Path, key: VerifierKey) -> VerificationReport:
    """Verify the published ledger below a workspace folder."""
    inside = folder / "files" / "ledger"
    report = VerificationReport(str(folder), "verified", True, str(key))
    checkpoint, leaves = read_folder(inside if inside.is_dir() else folder, key)
    report.add("checkpoint", f"signed; {checkpoint.size} entries lead to root {checkpoint.root.hex()[:16]}…")
    report.add("tiles", "entries and hashes are those of that tree")
    kinds = Counter(Entry.decode(leaf, f"Ledger entry {n}").kind for n, leaf in enumerate(leaves))
    report.counts.update(size=checkpoint.size, root=checkpoint.root.hex(), kinds=dict(kinds))
    report.not_checked += [
        "the evidence itself: it is sealed in the workspace (make a bundle for that)",
        "whether the whole workspace was put back to an earlier state",
    ]
    return report
