"""A key in a PKCS#11 token: a hardware security module, a smart card, SoftHSM.

The module is a shared library that is loaded into the process, so its path comes from ``AFFIDAVIT_PKCS11_MODULE`` and never from the
workspace; the user's PIN comes from ``AFFIDAVIT_PKCS11_PIN``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from affidavit.errors import AffidavitError
from affidavit_governance.encryption.providers.base import RemoteProvider

MODULE = "AFFIDAVIT_PKCS11_MODULE"
PIN = "AFFIDAVIT_PKCS11_PIN"

# All sessions of a process share one login to a token (PKCS#11 2.40, section 5.6), so the end of one thread's session would log out another's.
_ONE_AT_A_TIME = threading.Lock()

_NONCE_BYTES = 12
_GCM, _KEY_WRAP = b"\x01", b"\x02"

# What tokens answer where data were changed or the key is another one; SoftHSM says GeneralError for a wrong GCM tag.
_DOES_NOT_OPEN = (
    pkcs11.DataInvalid,
    pkcs11.EncryptedDataInvalid,
    pkcs11.EncryptedDataLenRange,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.WrappedKeyInvalid,
    pkcs11.WrappedKeyLenRange,
)


class Pkcs11Provider(RemoteProvider):
    """An AES-256 key in the token labelled ``token``; ``key`` is its own label.

    It is made in the token, not extractable, where there is none. Wraps by AES-GCM (SP 800-38D) where the token offers it, else by AES key
    wrap (RFC 3394).
    """

    name = "pkcs11"
    required = ("token",)
    optional = ("key",)

    @property
    def label(self) -> str:
        return f"Key '{self._key_label}' in the PKCS#11 token '{self.settings['token']}'"

    def describe(self) -> Mapping[str, Any]:
        """The labels of token and key."""
        return {"token": self.settings["token"], "key": self._key_label}

    @property
    def _key_label(self) -> str:
        return str(self.settings.get("key", "affidavit"))

    def encrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Encrypt 32 bytes in the token: which mechanism (1 byte), then nonce and ciphertext, or the wrapped key."""
        with self._session(write=True) as session:
            key = self._key(session, create=True)
            if self._offers(session, Mechanism.AES_GCM, MechanismFlag.ENCRYPT):
                nonce = os.urandom(_NONCE_BYTES)
                sealed = key.encrypt(data, mechanism=Mechanism.AES_GCM, mechanism_param=self._gcm(nonce, context))
                return _GCM + nonce + bytes(sealed)
            # The mechanism has no associated data: the body that the 32 bytes seal is what authenticates the context.
            held = session.create_object(
                {
                    Attribute.CLASS: ObjectClass.SECRET_KEY,
                    Attribute.KEY_TYPE: KeyType.AES,
                    Attribute.VALUE: data,
                    Attribute.TOKEN: False,
                    Attribute.EXTRACTABLE: True,
                }
            )
            try:
                return _KEY_WRAP + bytes(key.wrap_key(held, mechanism=Mechanism.AES_KEY_WRAP))
            finally:
                held.destroy()

    def decrypt(self, data: bytes, context: Mapping[str, str]) -> bytes:
        """Decrypt in the token what `encrypt` made."""
        mechanism, rest = data[:1], data[1:]
        with self._session(write=False) as session:
            key = self._key(session, create=False)
            try:
                if mechanism == _GCM:
                    parameters = self._gcm(rest[:_NONCE_BYTES], context)
                    return bytes(key.decrypt(rest[_NONCE_BYTES:], mechanism=Mechanism.AES_GCM, mechanism_param=parameters))
                template = {Attribute.TOKEN: False, Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False}
                held = key.unwrap_key(ObjectClass.SECRET_KEY, KeyType.AES, rest, mechanism=Mechanism.AES_KEY_WRAP, template=template)
                try:
                    return bytes(held[Attribute.VALUE])
                finally:
                    held.destroy()
            except _DOES_NOT_OPEN:
                raise self.changed() from None

    def _gcm(self, nonce: bytes, context: Mapping[str, str]) -> Any:
        return pkcs11.GCMParams(nonce, self.associated(context), 128)

    def _offers(self, session: Any, mechanism: Mechanism, use: MechanismFlag) -> bool:
        slot = session.token.slot
        return mechanism in slot.get_mechanisms() and bool(slot.get_mechanism_info(mechanism).flags & use)

    def _key(self, session: Any, *, create: bool) -> Any:
        found = self._found(session)
        if not found and create:
            template = {Attribute.EXTRACTABLE: False, Attribute.SENSITIVE: True}
            made = session.generate_key(KeyType.AES, 256, label=self._key_label, store=True, template=template)
            if len(self._found(session)) > 1:
                made.destroy()  # with two, nobody could tell which one a workspace is under
                raise AffidavitError(f"{self.label} was made by another process at the same time; nothing was changed.", hint="Try again.")
            return made
        if len(found) != 1:
            raise AffidavitError(f"{self.label}: the token has {len(found)} AES keys of that label.", hint="It needs exactly one.")
        if found[0][Attribute.EXTRACTABLE]:
            raise AffidavitError(f"{self.label} can be extracted from the token, which is no protection.", hint="Use another key label.")
        return found[0]

    def _found(self, session: Any) -> list[Any]:
        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.LABEL: self._key_label}
        return list(session.get_objects(wanted))

    @contextlib.contextmanager
    def _session(self, *, write: bool) -> Iterator[Any]:
        module, pin = os.environ.get(MODULE), os.environ.get(PIN)
        if not module or not pin:
            variable = PIN if module else MODULE
            raise AffidavitError(
                f"{self.label} cannot be used: {variable} is not set.", hint=f"Set {MODULE} to the token's library and {PIN} to its PIN."
            )
        try:
            with _ONE_AT_A_TIME:
                token = pkcs11.lib(module).get_token(token_label=self.settings["token"])
                with token.open(user_pin=pin, rw=write) as session:
                    yield session
        except pkcs11.PKCS11Error as error:
            # The library's text may quote paths, never data; its class says what happened.
            why = {"NoSuchToken": "there is no such token", "PinIncorrect": "the PIN is wrong", "PinLocked": "the PIN is locked"}
            reason = why.get(type(error).__name__, f"the library '{module}' failed ({type(error).__name__})")
            raise AffidavitError(f"{self.label} cannot be used: {reason}.") from None
