"""A key provider under check: how it is made, and what brings up the key behind it and takes it away."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from affidavit.interfaces.keys import KeyOwner, KeyProvider
from affidavit.testing.checks import Skip
from affidavit.testing.subjects import Case, Subject

SECRET = bytes(range(1, 33))
WORKSPACE = "c0" * 16
CONTEXT = {"purpose": "affidavit keyring", "workspace": WORKSPACE, "keyring": "0123456789abcdef"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProviderCase(Case):
    """How a key provider is tried.

    Attributes
    ----------
    settings
        What it is told.
    passphrase
        What the user gives, where it takes a passphrase.
    around
        Brings up what holds the key, for as long as a check takes, and gives more settings, or none; it may raise Skip("why") where that is
        not possible here.
    lost
        Takes the key out of reach for a while, inside `around`: a variable that is unset, an address where nobody answers. Without it a
        provider with a passphrase is tried without that, and any other cannot show that it fails closed.
    """

    kind: ClassVar[str] = "key_provider"
    settings: Mapping[str, Any] = field(default_factory=dict)
    passphrase: str | None = None
    around: Callable[[], AbstractContextManager[Mapping[str, Any] | None]] | None = None
    lost: Callable[[], AbstractContextManager[Any]] | None = None


class KeyProviderSubject(Subject[KeyProviderCase]):
    """A key provider."""

    kind = "key_provider"
    Case = KeyProviderCase

    @contextlib.contextmanager
    def settings(self) -> Iterator[dict[str, Any]]:
        """Brings up what holds the key, and gives what the provider is told."""
        with contextlib.ExitStack() as stack:
            more = stack.enter_context(self.case.around()) if self.case.around is not None else None
            yield {**self.case.settings, **(more or {})}

    @contextlib.contextmanager
    def lost(self) -> Iterator[None]:
        """The key is out of reach meanwhile. Raises Skip where the case does not say how."""
        if self.case.lost is None and self.case.passphrase is None:
            raise Skip("its KeyProviderCase does not say by 'lost' how its key gets out of reach")
        with self.case.lost() if self.case.lost is not None else contextlib.nullcontext():
            yield

    def make(self, settings: Mapping[str, Any], *, passphrase: bool = True) -> KeyProvider:
        """A new instance."""
        owner = KeyOwner(WORKSPACE, "of the conformance kit", passphrase=self.case.passphrase if passphrase else None)
        made: KeyProvider = self.value(settings, owner)
        return made

    def again(self, provider: KeyProvider, *, passphrase: bool = True) -> KeyProvider:
        """An instance made from what `provider` describes, as a workspace does when it is opened."""
        return self.make(json.loads(json.dumps(dict(provider.describe()))), passphrase=passphrase)

    @property
    def secrets(self) -> list[bytes]:
        """What nobody may see, in each form in which it could be written."""
        return [*forms(SECRET), *(forms(self.case.passphrase.encode()) if self.case.passphrase else [])]


@contextlib.contextmanager
def variables(**values: str | None) -> Iterator[None]:
    """Environment variables for a while, None for one that is absent: for `KeyProviderCase.around` and `lost`."""
    before = {name: os.environ.get(name) for name in values}
    _put(values)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def forms(secret: bytes) -> list[bytes]:
    """A secret as it is, in hexadecimal, in base64 and as Python or JSON would list its bytes."""
    encoded = base64.b64encode(secret).rstrip(b"=")
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), encoded, repr(secret).encode()]
