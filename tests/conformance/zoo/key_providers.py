"""Broken key providers, at least one for each check, and the sound one that they are made from."""

from __future__ import annotations

import base64
import importlib
import json
import os
import time
import urllib.request

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.conformance.zoo.pen import Pen

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.testing.kinds.key_provider.subject import KeyProviderCase, KeyProviderSubject, variables

VARIABLE = "ZOO_KEY"


def key_there():
    return variables(**{VARIABLE: base64.b64encode(os.urandom(32)).decode()})


def key_gone():
    return variables(**{VARIABLE: None})


CASE = KeyProviderCase(name="zoo.cupboard", settings={"shelf": "top"}, around=key_there, lost=key_gone)
PASSPHRASE = KeyProviderCase(name="zoo.cupboard", settings={"shelf": "top"}, passphrase="correct horse", around=key_there, lost=key_gone)
PEN = Pen(KeyProviderSubject, "zoo.cupboard", case=CASE)


class Cupboard:
    """Seals by AES-GCM under a key in the environment. This one is sound."""

    known = ("shelf",)

    def __init__(self, settings, owner):
        for name in settings:
            if name not in self.known:
                raise UsageError(f"Key provider 'zoo.cupboard' has no setting '{name}'.")
        if not isinstance(settings.get("shelf"), str):
            raise UsageError("Key provider 'zoo.cupboard' needs the setting 'shelf'.")
        self.settings, self.owner = dict(settings), owner

    @property
    def label(self):
        return f"The cupboard's shelf '{self.settings['shelf']}'"

    def describe(self):
        return dict(self.settings)

    def key(self):
        text = os.environ.get(VARIABLE)
        if text is None:
            raise AffidavitError(f"{self.label} is locked: {VARIABLE} is not set.")
        return base64.b64decode(text)

    def bound(self, context):
        return json.dumps(dict(context), sort_keys=True).encode()

    def wrap(self, secret, context):
        nonce = os.urandom(12)
        return nonce + AESGCM(self.key()).encrypt(nonce, secret, self.bound(context))

    def unwrap(self, wrapped, context):
        try:
            return AESGCM(self.key()).decrypt(wrapped[:12], wrapped[12:], self.bound(context))
        except (InvalidTag, ValueError):
            raise IntegrityError(f"{self.label} does not open it.") from None

    def __reduce__(self):
        raise TypeError("A key provider cannot be copied.")


PEN.passes(Cupboard)
caught_by = PEN.caught_by


@caught_by("key_provider_is_what_it_registered")
class LabelOfTwoLines(Cupboard):
    @property
    def label(self):
        return "The cupboard,\nits shelf"


@caught_by("a_wrapped_secret_comes_back")
class DescribesTooLittle(Cupboard):
    """What finds the key again is on the object alone."""

    def __init__(self, settings, owner):
        super().__init__(settings, owner)
        self.salt = os.urandom(8)

    def bound(self, context):
        return self.salt + super().bound(context)


@caught_by("a_wrapped_secret_comes_back")
class DependsOnTheOrder(Cupboard):
    def bound(self, context):
        return json.dumps(dict(context)).encode()


@caught_by("the_secret_shows_nowhere")
class QuotesWhatDoesNotFit(Cupboard):
    def unwrap(self, wrapped, context):
        try:
            return super().unwrap(wrapped, context)
        except IntegrityError as error:
            raise IntegrityError(f"{error} It is {self.last.hex()}.") from None

    def wrap(self, secret, context):
        self.last = secret
        return super().wrap(secret, context)


@caught_by("the_secret_shows_nowhere", case=PASSPHRASE)
class ShowsItsOwner(Cupboard):
    def __repr__(self):
        return f"ShowsItsOwner({self.owner.passphrase})"


@caught_by("the_secret_shows_nowhere")
class WrapsInBase64(Cupboard):
    """Puts the secret beside what it sealed."""

    def wrap(self, secret, context):
        return base64.b64encode(secret) + super().wrap(secret, context)

    def unwrap(self, wrapped, context):
        secret = super().unwrap(wrapped[44:], context)
        if base64.b64encode(secret) != wrapped[:44]:
            raise IntegrityError(f"{self.label} does not open it.")
        return secret


@caught_by("another_context_opens_nothing")
class IgnoresTheContext(Cupboard):
    def bound(self, context):
        return b""


@caught_by("changed_bytes_open_nothing")
class DoesNotAuthenticate(Cupboard):
    """AES in counter mode, with the context beside it."""

    def wrap(self, secret, context):
        nonce = os.urandom(16)
        cipher = Cipher(algorithms.AES(self.key()), modes.CTR(nonce)).encryptor()
        return AESGCM(self.key()).encrypt(nonce[:12], b"", self.bound(context)) + nonce + cipher.update(secret)

    def unwrap(self, wrapped, context):
        tag, nonce, body = wrapped[:16], wrapped[16:32], wrapped[32:]
        try:
            AESGCM(self.key()).decrypt(nonce[:12], tag, self.bound(context))
        except (InvalidTag, ValueError):
            raise IntegrityError(f"{self.label} does not open it.") from None
        return Cipher(algorithms.AES(self.key()), modes.CTR(nonce)).decryptor().update(body)


@caught_by("changed_bytes_open_nothing")
class TakesAnyTail(Cupboard):
    def unwrap(self, wrapped, context):
        return super().unwrap(wrapped[:60], context)


@caught_by("what_it_describes_leads_to_no_code_and_no_address")
class CallsHome(Cupboard):
    """Asks a server of the settings whether the shelf is open."""

    known = ("shelf", "endpoint")

    def wrap(self, secret, context):
        if isinstance(self.settings.get("endpoint"), str):
            urllib.request.urlopen(self.settings["endpoint"], timeout=2)
        return super().wrap(secret, context)


@caught_by("what_it_describes_leads_to_no_code_and_no_address")
class LoadsALibrary(Cupboard):
    known = ("shelf", "library")

    def __init__(self, settings, owner):
        super().__init__(settings, owner)
        if isinstance(settings.get("library"), str):
            importlib.import_module(settings["library"])


@caught_by("what_it_describes_leads_to_no_code_and_no_address")
class DescribesItsUrl(Cupboard):
    known = ("shelf", "url")

    def describe(self):
        return {**super().describe(), "url": "https://cupboard.example"}


@caught_by("a_key_provider_refuses_settings_that_it_does_not_know")
class TakesAnySetting(Cupboard):
    def __init__(self, settings, owner):
        super().__init__({"shelf": settings.get("shelf")}, owner)


@caught_by("a_key_provider_refuses_settings_that_it_does_not_know")
class RepeatsItsSettings(Cupboard):
    def __init__(self, settings, owner):
        try:
            super().__init__(settings, owner)
        except UsageError:
            raise UsageError(f"These settings do not fit: {settings}.") from None


@caught_by("a_key_provider_refuses_settings_that_it_does_not_know")
class FallsOverAbsentSettings(Cupboard):
    def __init__(self, settings, owner):
        super().__init__({**settings, "shelf": settings["shelf"]}, owner)


@caught_by("a_key_out_of_reach_is_named")
class GivesADefault(Cupboard):
    """Where the key is lost, it goes on with a secret that everybody knows."""

    def unwrap(self, wrapped, context):
        return super().unwrap(wrapped, context) if VARIABLE in os.environ else bytes(32)


@caught_by("a_key_out_of_reach_is_named")
class FallsOverALostKey(Cupboard):
    def key(self):
        return base64.b64decode(os.environ[VARIABLE])


@caught_by("threads_may_wrap_at_once")
class KeepsTheCallOnItself(Cupboard):
    def wrap(self, secret, context):
        self.secret = secret
        time.sleep(0.002)
        return super().wrap(self.secret, context)

    def describe(self):
        return {"shelf": self.settings["shelf"]}


@caught_by("wrapping_leaves_the_process_alone")
class LeavesItsTokenInTheEnvironment(Cupboard):
    def wrap(self, secret, context):
        os.environ["ZOO_TOKEN"] = str(time.perf_counter_ns())
        return super().wrap(secret, context)


@caught_by("no_copy_of_it_holds_a_secret", case=PASSPHRASE)
class CanBeCopied(Cupboard):
    def __reduce__(self):
        return object.__reduce__(self)

    def __reduce_ex__(self, protocol):
        return object.__reduce_ex__(self, protocol)


@caught_by("a_workspace_under_it_opens_again")
class KeepsABackup(Cupboard):
    """Leaves the secret in the workspace's folder, in case the cupboard burns down."""

    def wrap(self, secret, context):
        if self.owner.folder is not None:
            (self.owner.folder / "backup.txt").write_text(secret.hex())
        return super().wrap(secret, context)


@caught_by("without_its_key_the_workspace_stays_shut")
class RemembersWorkspaces(Cupboard):
    """Keeps what it opened for a workspace, so that the next opening is quicker."""

    opened = {}  # noqa: RUF012 - one for all

    def unwrap(self, wrapped, context):
        if wrapped not in self.opened or self.owner.folder is None:
            self.opened[wrapped] = super().unwrap(wrapped, context)
        return self.opened[wrapped]


@caught_by("keys_rotate_under_it_and_move_away")
class WrapsOnce(Cupboard):
    """Refuses to wrap for a workspace that it has wrapped for before."""

    def wrap(self, secret, context):
        mark = self.owner.folder and self.owner.folder / "wrapped"
        if mark and mark.exists():
            raise AffidavitError(f"{self.label} holds something already.")
        if mark:
            mark.touch()
        return super().wrap(secret, context)
