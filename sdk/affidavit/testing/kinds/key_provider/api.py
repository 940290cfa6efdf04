"""Checks of a key provider as such: what `wrap`, `unwrap` and `describe` promise."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from affidavit.errors import AffidavitError, IntegrityError, UsageError
from affidavit.interfaces.keys import KeyProvider
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.key_provider.subject import CONTEXT, SECRET, KeyProviderSubject
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

PLANTED = "planted-value-7301"
PATIENCE = 45.0
"""Seconds after which a provider must have given up on a key that it cannot reach."""
OTHER_SECRET = bytes(range(33, 65))
_NAME_IT = "raise AffidavitError, which names the key and where it was looked for"

ADDRESSES = ("address", "addr", "url", "uri", "endpoint", "endpoint_url", "host", "server", "proxy")
CODE = ("library", "module", "module_path", "plugin", "driver", "engine", "class", "code", "command")
CREDENTIALS = ("password", "passphrase", "pin", "secret", "secret_key", "access_key", "session_token", "credentials", "api_key")


@check("key_provider", Tier.API)
def key_provider_is_what_it_registered(subject: KeyProviderSubject) -> None:
    """The class has `label`, `describe`, `wrap` and `unwrap`, and its label is a line for people."""
    missing = [name for name in ("label", "describe", "wrap", "unwrap") if not hasattr(subject.value, name)]
    if missing:
        raise CheckFailed(f"it has no {', '.join(missing)}.")
    with subject.settings() as settings:
        label = subject.make(settings).label
        if not isinstance(label, str) or not label.strip() or "\n" in label:
            raise CheckFailed("label is no line of text: say what holds the key, as in \"The key file '…'\".")


@check("key_provider", Tier.API)
def a_wrapped_secret_comes_back(subject: KeyProviderSubject) -> None:
    """`unwrap` gives what `wrap` was given, from an instance made of what `describe` says too, and in whatever order the context stands."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        one, two = provider.wrap(SECRET, CONTEXT), provider.wrap(SECRET, CONTEXT)
        other = provider.wrap(OTHER_SECRET, CONTEXT)
        if not all(isinstance(wrapped, bytes) for wrapped in (one, two, other)):
            raise CheckFailed("wrap must give bytes.")
        for who, opener in (("it", provider), ("an instance made of what it describes", subject.again(provider))):
            for wrapped, secret in ((one, SECRET), (two, SECRET), (other, OTHER_SECRET)):
                try:
                    found = opener.unwrap(wrapped, dict(reversed(CONTEXT.items())))
                except Exception as error:
                    raise CheckFailed(f"{who} does not open what was wrapped ({type(error).__name__}): describe what finds the key again.") from error
                if found != secret:
                    raise CheckFailed(f"{who} opens what was wrapped to another secret.")


@check("key_provider", Tier.API)
def the_secret_shows_nowhere(subject: KeyProviderSubject) -> None:
    """Neither what is wrapped, nor `describe`, `label`, `repr` or an error holds the secret or the passphrase."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        wrapped = provider.wrap(SECRET, CONTEXT)
        provider.unwrap(wrapped, CONTEXT)
        shown = {"what wrap gave": wrapped, "label": provider.label.encode(), "repr": repr(provider).encode(), "str": str(provider).encode()}
        shown["describe"] = json.dumps(dict(provider.describe()), ensure_ascii=False, default=repr).encode()
        for what, call in _failures(provider, wrapped):
            try:
                call()
            except Exception as error:  # which class it has is another check's affair
                shown[f"the error of {what}"] = "".join(traceback.format_exception(error)).encode()
        for what, text in shown.items():
            if any(secret in text for secret in subject.secrets):
                raise CheckFailed(f"{what} shows the secret or the passphrase.")


@check("key_provider", Tier.API)
def another_context_opens_nothing(subject: KeyProviderSubject) -> None:
    """What was wrapped for one workspace does not open for another."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        wrapped = provider.wrap(SECRET, CONTEXT)
        for other in ({**CONTEXT, "workspace": "d1" * 16}, {**CONTEXT, "extra": ""}, {}):
            _refused(partial(provider.unwrap, wrapped, other), "another context", "authenticate the context", IntegrityError)


@check("key_provider", Tier.API)
def changed_bytes_open_nothing(subject: KeyProviderSubject) -> None:
    """What was changed, cut off or lengthened is IntegrityError, or AffidavitError where the provider cannot tell; never another secret."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        wrapped = provider.wrap(SECRET, CONTEXT)
        for position in range(0, len(wrapped), max(1, len(wrapped) // 16)):
            changed = bytearray(wrapped)
            changed[position] ^= 0x11
            _refused(partial(provider.unwrap, bytes(changed), CONTEXT), f"a change of byte {position}", "authenticate every byte")
        for cut in (b"", wrapped[:1], wrapped[: len(wrapped) // 2], wrapped[:-1], wrapped + b"\0"):
            _refused(partial(provider.unwrap, cut, CONTEXT), f"{len(cut)} of {len(wrapped)} bytes", "authenticate the length")


@check("key_provider", Tier.API)
def what_it_describes_leads_to_no_code_and_no_address(subject: KeyProviderSubject) -> None:
    """`describe` is JSON without code, addresses and credentials, and settings that name some are refused or ignored."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        provider.wrap(SECRET, CONTEXT)
        described = dict(provider.describe())
        try:
            json.dumps(described, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise CheckFailed("describe holds what is no JSON.") from error
        bad = sorted(set(described) & {*ADDRESSES, *CODE, *CREDENTIALS})
        if bad:
            raise CheckFailed(f"describe holds '{bad[0]}', and whoever can write keyring.json could put in their own: take it from the environment.")
        with _trap() as (address, module, sprung):
            for name in (*ADDRESSES, *CODE):
                try:
                    tempted = subject.make({**settings, name: address if name in ADDRESSES else module})
                except Exception:  # refused, which is as good as ignored; that it is UsageError another check says
                    continue
                with suppress(Exception):
                    tempted.unwrap(tempted.wrap(SECRET, CONTEXT), CONTEXT)
                if sprung():
                    what = "connects to an address" if name in ADDRESSES else "imports code"
                    raise CheckFailed(
                        f"it {what} from the setting '{name}', and whoever can write keyring.json can change that: use the environment."
                    )


@check("key_provider", Tier.API)
def a_key_provider_refuses_settings_that_it_does_not_know(subject: KeyProviderSubject) -> None:
    """An unknown setting is UsageError, which does not repeat its value; a missing or odd one is an AffidavitError."""
    with subject.settings() as settings:
        try:
            subject.make({**settings, "surely_no_such_setting": PLANTED})
        except UsageError as error:
            if PLANTED in str(error):
                raise CheckFailed("the refusal of an unknown setting repeats its value: name the setting alone.") from None
        except Exception as error:
            raise CheckFailed(f"an unknown setting raised {type(error).__name__}, not UsageError.") from error
        else:
            raise CheckFailed("an unknown setting was accepted, so that a typo would choose another key.")
        provider = subject.make(settings)
        provider.wrap(SECRET, CONTEXT)
        described = dict(provider.describe())
        for name in described:
            without = {key: value for key, value in described.items() if key != name}
            for changed in (without, {**described, name: None}, {**described, name: {PLANTED: 1}}):
                try:
                    subject.make(changed).wrap(SECRET, CONTEXT)
                except AffidavitError:  # which names the key, and so may say what the setting says
                    continue
                except Exception as error:
                    raise CheckFailed(f"settings with another '{name}' raised {type(error).__name__}: check them, and raise UsageError.") from error


@check("key_provider", Tier.API)
def a_key_out_of_reach_is_named(subject: KeyProviderSubject) -> None:
    """Without its key nothing opens: an AffidavitError says so in bounded time, and holds no secret. `wrap` may make a new key, for new secrets."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        wrapped = provider.wrap(SECRET, CONTEXT)
        with subject.lost():
            begin = time.monotonic()
            without = subject.again(provider, passphrase=subject.case.lost is not None)
            errors = [_refused(partial(without.unwrap, wrapped, CONTEXT), "unwrap without the key", _NAME_IT)]
            try:
                without.wrap(OTHER_SECRET, CONTEXT)
            except AffidavitError as error:
                errors.append(error)
            except Exception as error:
                raise CheckFailed(f"wrap without the key raised {type(error).__name__}: {_NAME_IT}.") from error
            else:
                errors.append(_refused(partial(without.unwrap, wrapped, CONTEXT), "unwrap with a new key", _NAME_IT))
            if time.monotonic() - begin > PATIENCE:
                raise CheckFailed(f"it takes longer than {PATIENCE:g} s to give up on a key that is out of reach: set timeouts.")
        told = "".join("".join(traceback.format_exception(error)) for error in errors).encode()
        if any(secret in told for secret in subject.secrets):
            raise CheckFailed("the error without the key holds the secret or the passphrase.")
        if provider.unwrap(wrapped, CONTEXT) != SECRET:
            raise CheckFailed("once the key is back, it opens what was wrapped to another secret.")


@check("key_provider", Tier.API)
def threads_may_wrap_at_once(subject: KeyProviderSubject) -> None:
    """Four threads that use one provider each get their own secret back."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        provider.wrap(SECRET, CONTEXT)

        def both(number: int) -> bool:
            secret, context = bytes([number]) * 32, {**CONTEXT, "keyring": f"{number:016x}"}
            return provider.unwrap(provider.wrap(secret, context), context) == secret

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            try:
                right = list(pool.map(both, range(8)))
            except Exception as error:
                raise CheckFailed(f"threads that use it at once raised {type(error).__name__}: {error}") from error
        if not all(right):
            raise CheckFailed("threads that use it at once get each other's secrets: keep nothing of a call on self.")


@check("key_provider", Tier.API)
def no_copy_of_it_holds_a_secret(subject: KeyProviderSubject) -> None:
    """Copying or pickling it is refused, or takes along neither the secret nor the passphrase."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        provider.unwrap(provider.wrap(SECRET, CONTEXT), CONTEXT)
        try:
            taken = copy.deepcopy(provider).__reduce_ex__(4)
        except Exception:  # refused, in whatever words
            return
        found = b"".join(_insides(taken))
        if any(secret in found for secret in subject.secrets):
            raise CheckFailed("a copy takes the passphrase or the secret along: let __reduce__ raise TypeError.")


@check("key_provider", Tier.API)
def wrapping_leaves_the_process_alone(subject: KeyProviderSubject) -> None:
    """Random generators, the environment, warning filters, logging and the SDK itself are after wrapping and unwrapping as they were before."""
    with subject.settings() as settings:
        provider = subject.make(settings)
        provider.wrap(SECRET, CONTEXT)  # whatever it imports at first use is its own affair
        with left_alone() as changed:
            provider.unwrap(provider.wrap(SECRET, CONTEXT), CONTEXT)
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


def _failures(provider: KeyProvider, wrapped: bytes) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "another context", lambda: provider.unwrap(wrapped, {**CONTEXT, "workspace": "d1" * 16})
    yield "changed bytes", lambda: provider.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT)
    yield "cut bytes", lambda: provider.unwrap(wrapped[:-1], CONTEXT)


def _refused(call: Callable[[], Any], what: str, remedy: str, kind: type[AffidavitError] = AffidavitError) -> AffidavitError:
    """The error by which it refuses; raises CheckFailed for another one, or none."""
    try:
        found = call()
    except kind as error:
        return error
    except Exception as error:
        raise CheckFailed(f"{what} raised {type(error).__name__}: raise {kind.__name__}.") from error
    raise CheckFailed(f"{what} gave {'the secret' if found == SECRET else 'something'}: {remedy}.")


@contextmanager
def _trap() -> Iterator[tuple[str, str, Callable[[], bool]]]:
    """An address at which somebody listens, the name of a module that can be imported, and whether either was used."""
    called: list[Any] = []
    knocks: list[Any] = []
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        name = f"affidavit_kit_trap_{server.getsockname()[1]}"
        (Path(folder) / f"{name}.py").write_text("IMPORTED = True\n", encoding="utf-8")

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, caller = server.accept()
                    called.append(caller)
                    connection.close()

        def sprung() -> bool:
            """Knock as well: callers are answered in turn, so whoever called before is known when this call has ended."""
            with socket.create_connection(server.getsockname()) as knock, suppress(OSError):
                knocks.append(knock.getsockname())
                knock.recv(1)
            return len(called) > len(knocks) or name in sys.modules

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        sys.path.insert(0, folder)
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", name, sprung
        finally:
            sys.path.remove(folder)
            sys.modules.pop(name, None)
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)


def _insides(value: Any, depth: int = 6) -> Iterator[bytes]:
    """Every text and byte string inside of an object, as far down as a copy would go."""
    if isinstance(value, (bytes, bytearray)):
        yield bytes(value)
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif depth and isinstance(value, Mapping):
        for pair in value.items():
            yield from _insides(pair, depth - 1)
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _insides(item, depth - 1)
    elif depth and not isinstance(value, type) and not callable(value):
        slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
        yield from _insides(
            {**getattr(value, "__dict__", {}), **{name: getattr(value, name, None) for name in slots if isinstance(name, str)}}, depth - 1
        )
