"""Checks of a key provider under a workspace: what is sealed through it opens again, moves to another key and back, and stays shut without it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affidavit.errors import AffidavitError
from affidavit.interfaces.governance import Keyring
from affidavit.plugins import Registry
from affidavit.store import Store
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.key_provider.subject import KeyProviderSubject, forms
from affidavit.testing.report import Tier
from affidavit.testing.within import KEY, enter
from affidavit.workspace import Workspace

PASSPHRASE = "conformance kit"
CONTENT = b"what only the keys of the workspace open"
_NAMED = {"purpose": "conformance", "name": "content"}


@check("key_provider", Tier.GOVERNANCE)
def a_workspace_under_it_opens_again(subject: KeyProviderSubject) -> None:
    """A workspace opens from what is on disk and reads what it sealed, and nothing that was wrapped stands there in the clear."""
    with _desk(subject) as desk:
        with desk.workspace() as workspace:
            if workspace.verifier_key != desk.identity or _opened(workspace.keyring, desk.sealed) != CONTENT:
                raise CheckFailed("a workspace that is opened again has other keys than before.")
            if json.loads(workspace.store.files.read("keyring.json"))["provider"]["type"] != subject.name:
                raise CheckFailed("keyring.json names another provider.")
        written = b"".join(path.read_bytes() for path in desk.folder.rglob("*") if path.is_file())
        secrets = [*desk.wrapped, *([subject.case.passphrase.encode()] if subject.case.passphrase else [])]
        if any(form in written for secret in secrets for form in forms(secret)):
            raise CheckFailed("a secret that it was given to wrap stands in a file of the workspace in the clear.")


@check("key_provider", Tier.GOVERNANCE)
def without_its_key_the_workspace_stays_shut(subject: KeyProviderSubject) -> None:
    """Where its key is out of reach, the workspace does not open, whatever was opened before; it does when the key is back."""
    with _desk(subject) as desk:
        with subject.lost():
            try:
                opened = desk.workspace(passphrase=PASSPHRASE if subject.case.lost is None else subject.case.passphrase)
            except AffidavitError:
                pass
            else:
                opened.close()
                raise CheckFailed(
                    "the workspace opened without its key: keep nothing that was unwrapped, and make no new key in the place of a lost one."
                )
        with desk.keyring() as keyring:
            if _opened(keyring, desk.sealed) != CONTENT:
                raise CheckFailed("once the key is back, the workspace has other keys.")


@check("key_provider", Tier.GOVERNANCE)
def keys_rotate_under_it_and_move_away(subject: KeyProviderSubject) -> None:
    """In a reopened workspace the keys rotate, what is sealed stays readable, and another provider takes over without it."""
    with _desk(subject) as desk:
        with desk.workspace() as workspace:
            keys = workspace.service("keys")(workspace)
            try:
                keys.rotate()
            except AffidavitError as error:
                raise CheckFailed(f"the keys do not rotate in a reopened workspace: {error}") from error
            later = workspace.keyring.seal(CONTENT, **_NAMED)
            with desk.keyring() as keyring:
                if not _opened(keyring, desk.sealed) == _opened(keyring, later) == CONTENT:
                    raise CheckFailed("after a rotation the workspace opens what was sealed to something else.")
            keys.provide("passphrase", {}, passphrase=PASSPHRASE)
        with subject.lost() if subject.case.lost is not None else nullcontext(), desk.keyring(passphrase=PASSPHRASE) as keyring:
            if not _opened(keyring, desk.sealed) == _opened(keyring, later) == CONTENT:
                raise CheckFailed("under another provider the workspace has other keys.")


def _opened(keyring: Keyring, sealed: bytes) -> bytes:
    return keyring.open(sealed, **_NAMED)


class _Knowing(Workspace):
    """A workspace that knows what is under check before it opens its keys."""

    def __init__(self, subject: KeyProviderSubject, value: Any, location: Path, passphrase: str | None, key: bytes | None) -> None:
        self._subject, self._value, self._entered = subject, value, False
        super().__init__(location, policy={"approvals": {}}, actor="conformance kit", passphrase=passphrase, key=key)

    @property
    def registry(self) -> Registry:
        registry = super().registry
        if not self._entered:
            self._entered = True
            enter(self, self._subject, value=self._value)
        return registry


@dataclass(slots=True)
class _Desk:
    """A workspace folder that was handed over to the provider, what the provider was given to wrap, and what was sealed since.

    Attributes
    ----------
    registry
        It knows the provider, or rather what watches it.
    """

    subject: KeyProviderSubject
    value: Any
    folder: Path
    wrapped: list[bytes] = field(default_factory=list)
    registry: Registry | None = None
    identity: str = ""
    sealed: bytes = b""

    def workspace(self, *, passphrase: str | None = None) -> Workspace:
        """The workspace, opened with the case's passphrase, or another one."""
        return _Knowing(self.subject, self.value, self.folder, passphrase or self.subject.case.passphrase, None)

    def new_workspace(self) -> Workspace:
        """The workspace before the provider under check has it."""
        return _Knowing(self.subject, self.value, self.folder, None, KEY)

    @contextmanager
    def keyring(self, *, passphrase: str | None = None) -> Iterator[Keyring]:
        """Its keys alone, opened as by another process."""
        assert self.registry is not None
        with Store.open(self.folder) as store:
            opener = self.registry.get("service", "keyring")
            yield opener(store, passphrase=passphrase or self.subject.case.passphrase, registry=self.registry)


@contextmanager
def _desk(subject: KeyProviderSubject) -> Iterator[_Desk]:
    """A new workspace that was handed over to the provider."""
    wrapped: list[bytes] = []

    class Watched(subject.value):  # type: ignore[name-defined,misc]  # the class under check
        def wrap(self, secret: bytes, context: Any) -> Any:
            wrapped.append(secret)
            return super().wrap(secret, context)

    with subject.settings() as settings, tempfile.TemporaryDirectory() as folder:
        desk = _Desk(subject, Watched, Path(folder) / "workspace", wrapped)
        with desk.new_workspace() as workspace:
            workspace.service("keys")(workspace).provide(subject.name, settings, passphrase=subject.case.passphrase)
            desk.registry, desk.identity = workspace.registry, workspace.verifier_key
            desk.sealed = workspace.keyring.seal(CONTENT, **_NAMED)
        yield desk
