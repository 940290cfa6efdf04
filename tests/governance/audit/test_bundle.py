"""The bundle and its verifier: what verifies, and that nothing that was changed does."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from audit_workspace import add_plugins, announce, finish, open_small, predicate_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit_governance import audit
from affidavit_governance.audit import container, verify
from affidavit_governance.audit.bundle import write_bundle
from affidavit_governance.audit.dsse import canonical_json, read_statement, seal_statement, statement, subjects
from affidavit_governance.audit.merkle import Tree, leaf_hash
from affidavit_governance.audit.note import Checkpoint, VerifierKey, signed_note
from affidavit_governance.audit.records import Entry, evidence_name, predicate_type
from affidavit_governance.audit.story import call_digest
from affidavit_governance.audit.verify import verify_bundle

Opener = Callable[[], SimpleNamespace]
REPORT = "<html><body>ε = 2.9</body></html>"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A bundle with calls, a private training, predictions, events and the checkpoint of an earlier bundle; and its key."""
    folder = tmp_path_factory.mktemp("made")
    workspace = open_small(folder / "ws")
    add_plugins(workspace, 2)
    announce(workspace, "a" * 32, "train")
    details = {"type": "t", "params": {}, "capabilities": [], "signature": {}, "rows": 9, "roots": ["cd" * 32], "seed": 0}
    stages = {"privacy": {"private": True, "epsilon": 2.9, "delta": 1e-5}}
    finish(workspace, "a" * 32, "train", details=details, stages=stages)
    write_bundle(workspace, folder / "earlier.zip", report_html=None)
    for _ in range(3):
        workspace.ledger.journal.record("c" * 32, "m" * 64, "credit:1", "i" * 64, "o" * 64, 4)
    workspace.ledger.seal_journals()
    announce(workspace, "b" * 32, "promote")
    path = write_bundle(workspace, folder / "audit.zip", report_html=REPORT)
    key = workspace.keyring.verifier_key
    finish(workspace, "b" * 32, "promote", details={"version": "v:1", "alias": "production"})
    workspace.ledger.close()
    workspace.store.close()
    return SimpleNamespace(folder=folder, path=path, data=path.read_bytes(), key=key)


def check(data: bytes, key: str | None, folder: Path) -> verify.VerificationReport:
    path = folder / "it.zip"
    path.write_bytes(data)
    return verify_bundle(path, key)


def test_a_bundle_verifies_and_says_what_it_checked_and_what_not(made: SimpleNamespace) -> None:
    report = verify_bundle(made.path, made.key)
    assert report.ok
    assert report.status == "verified"
    assert {each.name for each in report.checks} == {
        "manifest", "files", "checkpoint", "inclusion proofs", "consistency proofs", "evidence", "calls", "prediction journals", "policy"
    }  # fmt: skip
    assert report.counts["kinds"] == {"plugin": 2, "train": 2, "predict": 1, "promote": 1}
    assert report.counts["predictions"] == 3
    assert report.privacy == [
        {
            "entry": 3, "kind": "train", "status": "done", "subjects": {"thing:1": "ab" * 32}, "private": True, "epsilon": 2.9, "delta": 1e-5,
            "bracket": None, "remark": "the statement lists no events",
        },
    ]  # fmt: skip
    assert any("1 calls that had not ended" in line for line in report.not_checked)
    assert json.loads(json.dumps(report.to_json()))["ok"] is True
    assert "not checked: " in str(report)
    assert "stated in evidence 3: epsilon 2.9, delta 1e-05" in str(report)


def test_a_bundle_without_a_key_is_unanchored_and_not_accepted(made: SimpleNamespace) -> None:
    report = verify_bundle(made.path)
    assert (report.status, report.ok) == ("unanchored", False)
    assert "UNANCHORED" in str(report)
    allowed = verify_bundle(made.path, allow_unanchored=True)
    assert (allowed.status, allowed.ok) == ("unanchored", True)


def test_the_key_may_come_from_a_file_and_a_wrong_one_is_refused(made: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text(made.key + "\n")
    assert verify_bundle(made.path, str(tmp_path / "key.txt")).ok
    parsed = VerifierKey.parse(made.key)
    other = str(VerifierKey(parsed.name, Ed25519PrivateKey.generate().public_key().public_bytes_raw()))
    with pytest.raises(IntegrityError, match="the wrong key, or a changed bundle"):
        verify_bundle(made.path, other)
    for text in ("nonsense", str(tmp_path / "absent"), made.key[:-8]):
        with pytest.raises(IntegrityError):
            verify_bundle(made.path, text)
    with pytest.raises(UsageError):
        verify_bundle(tmp_path / "absent.zip", made.key)


def regions(data: bytes) -> dict[str, range]:
    """Where in the archive the content of each file stands."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: range(start := info.header_offset + 30 + len(info.filename), start + info.file_size) for info in archive.infolist()}


def test_flipping_any_byte_fails_and_names_the_file_or_the_container(made: SimpleNamespace, tmp_path: Path) -> None:
    data, source = made.data, random.Random(3)
    owner = dict.fromkeys(range(len(data)), "container")
    for name, positions in regions(data).items():
        owner.update(dict.fromkeys(positions, name))
    # Every byte outside the files, every byte of the manifest and the checkpoint, a sample of the rest.
    chosen = [position for position, name in owner.items() if name in ("container", verify.CHECKPOINT)]
    chosen += source.sample([position for position, name in owner.items() if name == verify.MANIFEST], 600)
    chosen += source.sample([position for position, name in owner.items() if name not in ("container", verify.CHECKPOINT, verify.MANIFEST)], 1500)
    assert len(chosen) > 4000
    assert {owner[position] for position in chosen} == {"container", *regions(data)}
    for position in chosen:
        changed = bytearray(data)
        changed[position] ^= 1 << source.randrange(8)
        with pytest.raises(IntegrityError) as caught:
            verify._verify_files("it", bytes(changed), VerifierKey.parse(made.key), False)
        assert owner[position] in str(caught.value), f"byte {position} of {owner[position]}: {caught.value}"


def test_flipping_bytes_is_noticed_without_a_key_too(made: SimpleNamespace) -> None:
    source = random.Random(4)
    for position in source.sample(range(len(made.data)), 400):
        changed = bytearray(made.data)
        changed[position] ^= 1 << source.randrange(8)
        with pytest.raises(IntegrityError):
            verify._verify_files("it", bytes(changed), None, True)


@pytest.mark.parametrize("where", ["front", "back", "cut"])
def test_bytes_around_the_container_are_refused(made: SimpleNamespace, tmp_path: Path, where: str) -> None:
    data = {"front": b"#!/bin/sh\n" + made.data, "back": made.data + b"\0", "cut": made.data[:-1]}[where]
    with pytest.raises(IntegrityError):
        check(data, made.key, tmp_path)


@pytest.mark.parametrize("name", ["evidence/000000.json", "checkpoint", "README.txt", "proofs/inclusion.json", "manifest.json"])
def test_a_missing_file_is_named(made: SimpleNamespace, tmp_path: Path, name: str) -> None:
    files = container.decode(made.data)
    del files[name]
    with pytest.raises(IntegrityError, match=name):
        check(container.encode(files), made.key, tmp_path)


def test_an_extra_file_is_named(made: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="extra"):
        check(container.encode({**container.decode(made.data), "extra": b"x"}), made.key, tmp_path)


def test_ordinary_zip_tools_read_it_and_their_rewrite_is_refused(made: SimpleNamespace, tmp_path: Path) -> None:
    with zipfile.ZipFile(made.path) as archive, zipfile.ZipFile(tmp_path / "again.zip", "w", zipfile.ZIP_DEFLATED) as again:
        assert archive.read("report.html").decode() == REPORT
        for name in archive.namelist():
            again.writestr(name, archive.read(name))
    with pytest.raises(IntegrityError):
        verify_bundle(tmp_path / "again.zip", made.key)


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"not a bundle at all", b"PK\x03\x04" + b"\xff" * 60])
def test_what_is_no_bundle_is_refused(tmp_path: Path, made: SimpleNamespace, content: bytes) -> None:
    with pytest.raises(IntegrityError):
        check(content, made.key, tmp_path)


# -- forgeries: everything signed again by whoever has the key, so that only the meaning is wrong -------------------------------------------------


class Forger:
    """Has a key, and makes bundles whose hashes and signatures all hold."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = VerifierKey("affidavit/forged", self.private.public_key().public_bytes_raw())
        self.files = files
        entries = [Entry.decode(line, "line") for line in files[verify.LEAVES].splitlines()]
        self.statements = [(entry.kind, read_statement(files[evidence_name(n)], "it", None)) for n, entry in enumerate(entries)]
        self.workspace = self.statements[0][1]["predicate"]["workspace"]
        self.size: int | None = None

    def sign(self, content: dict[str, Any]) -> bytes:
        return seal_statement(content, key_id=self.key.key_id.hex(), sign=self.private.sign)

    def note(self, size: int, root: bytes) -> bytes:
        text = Checkpoint(self.key.name, size, root).text()
        return signed_note(text, self.key, self.private.sign(text.encode()))

    def build(self, **replaced: bytes) -> bytes:
        kept = (verify.README, verify.POLICY, verify.REPORT)
        files = {name: data for name, data in self.files.items() if name in kept or name.startswith("journal/")}
        leaves = []
        for number, (kind, content) in enumerate(self.statements):
            envelope = self.sign(content)
            files[evidence_name(number)] = envelope
            leaves.append(Entry.of(kind, envelope).encode())
        tree = Tree(leaf_hash(leaf) for leaf in leaves)
        files[verify.LEAVES] = b"".join(leaf + b"\n" for leaf in leaves)
        files[verify.CHECKPOINT] = self.note(len(tree), tree.root())
        files[verify.INCLUSION] = canonical_json([[node.hex() for node in tree.inclusion_proof(n)] for n in range(len(tree))])
        files[verify.CONSISTENCY] = canonical_json({})
        files.update({name.replace("__", "/"): data for name, data in replaced.items()})
        listed = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        predicate = {"workspace": self.workspace, "key": str(self.key), "size": self.size or len(tree)}
        return container.encode({**files, verify.MANIFEST: self.sign(statement(listed, verify.BUNDLE_TYPE, predicate))})

    def change(self, index: int, **changes: Any) -> None:
        content = self.statements[index][1]
        content["predicate"] = {**content["predicate"], **changes}


@pytest.fixture
def forger(made: SimpleNamespace) -> Forger:
    return Forger(container.decode(made.data))


def refused(forger: Forger, folder: Path, match: str, **replaced: bytes) -> None:
    with pytest.raises(IntegrityError, match=match):
        check(forger.build(**replaced), str(forger.key), folder)


def test_the_forger_can_make_a_bundle_that_verifies(forger: Forger, tmp_path: Path, made: SimpleNamespace) -> None:
    assert check(forger.build(), str(forger.key), tmp_path).ok, "else the refusals below would show nothing"
    with pytest.raises(IntegrityError, match="wrong key"):
        check(forger.build(), made.key, tmp_path)


def test_an_outcome_without_an_intent_is_refused(forger: Forger, tmp_path: Path) -> None:
    del forger.statements[2]
    refused(forger, tmp_path, r"evidence/000002\.json ends call a+, which was not announced")


def test_two_outcomes_of_one_call_are_refused(forger: Forger, tmp_path: Path) -> None:
    forger.statements.append(forger.statements[3])
    refused(forger, tmp_path, "was not announced or has ended before")


def test_two_intents_of_one_call_are_refused(forger: Forger, tmp_path: Path) -> None:
    forger.statements.append(forger.statements[2])
    refused(forger, tmp_path, "a second time")


def test_an_outcome_of_another_kind_than_its_intent_is_refused(forger: Forger, tmp_path: Path) -> None:
    content = forger.statements[3][1]
    forger.statements[3] = ("evaluate", {**content, "predicateType": predicate_type("evaluate")})
    refused(forger, tmp_path, r"evidence/000003\.json ends call")


def test_a_statement_of_another_type_than_its_entry_is_refused(forger: Forger, tmp_path: Path) -> None:
    forger.statements[0] = ("train", forger.statements[0][1])
    refused(forger, tmp_path, r"evidence/000000\.json holds a statement of type 'urn:affidavit:evidence:plugin:v1'")


def test_a_statement_of_another_workspace_is_refused(forger: Forger, tmp_path: Path) -> None:
    forger.change(1, workspace="f" * 32)
    refused(forger, tmp_path, r"evidence/000001\.json is of another workspace")


def test_an_intent_about_something_else_is_refused(forger: Forger, tmp_path: Path) -> None:
    forger.statements[2][1]["subject"] = [{"name": "call:x", "digest": {"sha256": call_digest("x")}}]
    refused(forger, tmp_path, r"evidence/000002\.json is about another subject")


@pytest.mark.parametrize("changes", [{"first": 2}, {"segment": 1}, {"last": 0}, {"rows": 13}, {"last": 10**18}, {"first": "1"}, {"id": None}])
def test_a_journal_with_a_gap_is_refused(forger: Forger, tmp_path: Path, changes: dict[str, Any]) -> None:
    journal = forger.statements[4][1]["predicate"]["journal"]
    forger.change(4, journal={**journal, **changes})
    refused(forger, tmp_path, "journal")


def test_changed_journal_lines_are_refused(forger: Forger, tmp_path: Path) -> None:
    (name,) = [name for name in forger.files if name.startswith("journal/")]
    refused(forger, tmp_path, name, **{name: forger.files[name].replace(b"credit:1", b"credit:2")})


def test_journal_lines_that_were_deleted_after_their_retention_are_named_as_not_checked(forger: Forger, tmp_path: Path) -> None:
    forger.files = {name: data for name, data in forger.files.items() if not name.startswith("journal/")}
    report = check(forger.build(), str(forger.key), tmp_path)
    assert any("the lines of 1 journal segments" in line for line in report.not_checked)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (verify.INCLUSION, b"[]"), (verify.INCLUSION, b"{}"), (verify.INCLUSION, b"[[],[],[],[],[],[]]"), (verify.INCLUSION, b"[1,2,3,4,5,6]"),
        (verify.INCLUSION, b'[["zz"],[],[],[],[],[]]'), (verify.CONSISTENCY, b"[]"), (verify.CONSISTENCY, b'{"checkpoints/000001":[]}'),
        (verify.LEAVES, b"x\n"), (verify.LEAVES, b""), (verify.CHECKPOINT, b""), ("surprise", b"x"), ("evidence/999999.json", b"x"),
        ("checkpoints/000002", b"x"),
    ],
)  # fmt: skip
def test_signed_nonsense_is_refused(forger: Forger, tmp_path: Path, name: str, data: bytes) -> None:
    refused(forger, tmp_path, ".", **{name: data})


def test_signed_evidence_that_the_ledger_does_not_hold_is_refused(forger: Forger, tmp_path: Path) -> None:
    other = forger.sign({**forger.statements[0][1], "subject": [{"name": "other", "digest": {"sha256": "00" * 32}}]})
    refused(forger, tmp_path, r"evidence/000000\.json is not what the ledger recorded", **{evidence_name(0): other})


def test_an_earlier_checkpoint_of_a_ledger_with_another_past_is_refused(forger: Forger, tmp_path: Path) -> None:
    other = forger.note(2, Tree([leaf_hash(b"x"), leaf_hash(b"y")]).root())
    proof = canonical_json({"checkpoints/000002": ["00" * 32, "11" * 32]})
    refused(forger, tmp_path, "leads to other roots", checkpoints__000002=other, **{verify.CONSISTENCY: proof})


def test_a_bundle_that_claims_another_size_is_refused(forger: Forger, tmp_path: Path) -> None:
    forger.size = 99
    refused(forger, tmp_path, "checkpoint")


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "later"}, {"call": 5}, {"stages": "x"}, {"status": ["done"]}, {"stages": {"privacy": 3}}, {"policy": {}}, {"journal": 7},
        {"status": None}, {"workspace": None}, {"stages": {"privacy": {"epsilon": "\x1b[2J"}}},
    ],
)  # fmt: skip
def test_odd_predicates_give_a_clear_error_or_nothing_and_never_a_crash(forger: Forger, tmp_path: Path, changes: dict[str, Any]) -> None:
    forger.change(3, **changes)
    with contextlib.suppress(AffidavitError):
        assert "\x1b" not in str(check(forger.build(), str(forger.key), tmp_path))


# -- writing ---------------------------------------------------------------------------------------------------------------------------


def test_a_later_bundle_proves_that_it_goes_on_from_the_earlier(made: SimpleNamespace) -> None:
    earlier, later = container.decode((made.folder / "earlier.zip").read_bytes()), container.decode(made.data)
    assert later["checkpoints/000004"] == earlier["checkpoint"]
    report = verify_bundle(made.path, made.key)
    (line,) = [each.detail for each in report.checks if each.name == "consistency proofs"]
    assert line.startswith("1 earlier checkpoint")


def test_a_bundle_is_written_whole_or_not_at_all(opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = opened()
    add_plugins(workspace)
    path = write_bundle(workspace, tmp_path / "out" / "audit.zip", report_html=None)
    before = path.read_bytes()
    add_plugins(workspace)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(AffidavitError):
            write_bundle(workspace, path, report_html=None)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["audit.zip"]
    assert verify_bundle(write_bundle(workspace, path, report_html=None), workspace.keyring.verifier_key).counts["size"] == 2


def test_a_bundle_of_an_empty_ledger_verifies(opened: Opener, tmp_path: Path) -> None:
    workspace = opened()
    assert verify_bundle(write_bundle(workspace, tmp_path / "a.zip", report_html=None), workspace.keyring.verifier_key).counts["size"] == 0


def test_a_changed_ledger_gives_no_bundle(opened: Opener, tmp_path: Path) -> None:
    from affidavit_governance.audit.tables import leaves

    workspace = opened()
    add_plugins(workspace, 2)
    with workspace.store.write() as connection:
        connection.execute(leaves.update().where(leaves.c.idx == 0).values(sealed=b"x" * 100))
    with pytest.raises(IntegrityError, match="entry 0 was changed"):
        write_bundle(workspace, tmp_path / "a.zip", report_html=None)
    assert not (tmp_path / "a.zip").exists()


def test_the_policy_in_the_bundle_is_the_one_that_the_evidence_names(made: SimpleNamespace) -> None:
    files = container.decode(made.data)
    assert hashlib.sha256(files["policy.json"]).hexdigest() == read_statement(files[evidence_name(2)], "it", None)["predicate"]["policy"]
    assert set(subjects(read_statement(files["manifest.json"], "it", None))) == set(files) - {"manifest.json"}


def test_the_interrupted_outcome_of_a_recovered_call_verifies(opened: Opener, tmp_path: Path) -> None:
    first = opened()
    announce(first, "a" * 32)
    first.ledger.close()
    second = opened()
    report = verify_bundle(write_bundle(second, tmp_path / "a.zip", report_html=None), second.keyring.verifier_key)
    assert report.counts["outcomes"] == {"interrupted": 1}
    assert predicate_of(second, "a" * 32, "intent", None)["policy"] == second.policy.digest


VERIFYING = ["merkle", "note", "dsse", "tiles", "container", "records", "signers", "story", "published", "losses", "recount", "certificate", "verify"]


def test_the_verifying_half_imports_only_the_standard_library_and_cryptography() -> None:
    folder = Path(audit.__file__).parent
    for name in ["__init__", *VERIFYING]:
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text())):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in [*named, node.module or "."] if isinstance(node, ast.ImportFrom) else named:
                own = module == "affidavit_governance.audit" or module.removeprefix("affidavit_governance.audit.") in VERIFYING
                outside = module.partition(".")[0] in {*sys.stdlib_module_names, "cryptography"}
                assert own or outside or module == "affidavit.errors", f"{name}: {module}"


def test_verifying_loads_nothing_else(made: SimpleNamespace) -> None:
    code = (
        "import sys, json; from affidavit_governance.audit.verify import verify_bundle; assert verify_bundle(sys.argv[1], sys.argv[2]).ok; "
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(made.path), made.key], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & {"numpy", "pyarrow", "pydantic", "sqlalchemy", "pluggy", "yaml"}
