"""What the bundled providers share: settings, and two ways to wrap a secret."""

from __future__ import annotations

import base64
import binascii
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NoReturn

from affidavit.errors import AffidavitError, IntegrityError, UsageError, nearest
from affidavit.interfaces.keys import KeyOwner
from affidavit_governance.encryption import envelope

_NO_ID = bytes(envelope.KEY_ID_BYTES)  # a provider has one key; which one stands in its description


class Provider(ABC):
    """Base of the bundled providers: checks settings against `required` and `optional`, each a text."""

    name: ClassVar[str]
    required: ClassVar[Sequence[str]] = ()
    optional: ClassVar[Sequence[str]] = ()

    def __init__(self, settings: Mapping[str, Any], owner: KeyOwner) -> None:
        known = [*self.required, *self.optional]
        for key in settings:
            if key not in known:
                hint = f"Settings: {', '.join(known)}." if known else "It takes none."
                raise UsageError(f"Key provider '{self.name}' has no setting '{key[:80]}'.{nearest(key, known)}", hint=hint)
            if not isinstance(settings[key], (str, int)):
                raise UsageError(f"Key provider '{self.name}', setting '{key}': its value is no text.")
        for key in self.required:
            if not settings.get(key):
                raise UsageError(f"Key provider '{self.name}' needs the setting '{key}'.", hint=f"Settings: {', '.join(known)}.")
        self.settings = dict(settings)
        self.owner = owner

    @property
    @abstractmethod
    def label(self) -> str:
        """What holds the key, for people; it begins a sentence."""

    def describe(self) -> Mapping[str, Any]:
        """What it takes to find the key again."""
        return dict(self.settings)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.owner.location!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key provider cannot be pickled or copied: it may hold a passphrase or a key.")


class LocalProvider(Provider):
    """A provider whose 32-byte key is in this process while it is used."""

    @abstractmethod
    def key(self, *, create: bool = False) -> bytes:
        """The key, made where there is none and `create` is set."""

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Seal in an envelope that is bound to `context`."""
        return envelope.seal(self.key(create=True), _NO_ID, secret, _bound(context))

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Open what `wrap` sealed."""
        return envelope.open_sealed(self.key(), _NO_ID, wrapped, _bound(context))


class RemoteProvider(Provider):
    """A provider whose key stays elsewhere, and that encrypts 32 bytes on request.

    What it encrypts is a fresh key, and that seals the secret in the body of an envelope bound to the context: the secret itself never
    leaves the process, and the context is authenticated whether or not the other side can do it.
    """

    @abstractmethod
    def encrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt 32 bytes."""

    @abstractmethod
    def decrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt them. Raises IntegrityError for another key or context, or changed data."""

    def wrap(self, secret: bytes, context: Mapping[str, str]) -> bytes:
        """Seal under a fresh key, and have that encrypted: length of the latter (2 bytes, big endian), itself, the sealed body."""
        data_key = os.urandom(32)
        encrypted = self.encrypt(data_key, context)
        return len(encrypted).to_bytes(2, "big") + encrypted + envelope.seal_body(data_key, secret, _bound(context))

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        """Open what `wrap` sealed."""
        end = 2 + int.from_bytes(wrapped[:2], "big")
        if len(wrapped) < end + envelope.BODY_OVERHEAD:
            raise self.changed()
        data_key = self.decrypt(wrapped[2:end], context)
        if len(data_key) != 32:
            raise self.changed()
        return envelope.open_body(data_key, wrapped[end:], _bound(context))

    def changed(self) -> IntegrityError:
        """The error where what was wrapped does not open."""
        return IntegrityError(f"{self.label} does not open it: it was wrapped by another key or for another context, or has changed.")

    def associated(self, context: Mapping[str, str]) -> bytes:
        """The context as bytes to authenticate."""
        return _bound(context).name.encode()


def decode_key(text: str, what: str) -> bytes:
    """32 bytes from base64. Raises AffidavitError, which names `what` and quotes nothing."""
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise AffidavitError(f"{what} is not 32 bytes in base64.", hint="A new one: openssl rand -base64 32")
    return key


def _bound(context: Mapping[str, str]) -> envelope.Context:
    return envelope.Context("", "wrapped", json.dumps(dict(context), sort_keys=True, separators=(",", ":")))
