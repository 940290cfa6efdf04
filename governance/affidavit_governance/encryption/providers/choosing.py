"""Which provider a workspace gets, and the one that it has."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from affidavit.errors import AffidavitError, UsageError
from affidavit.interfaces.keys import parse_settings
from affidavit_governance.encryption.providers.environment import KEY
from affidavit_governance.encryption.providers.passphrase import PASSPHRASE

if TYPE_CHECKING:
    from affidavit.interfaces.keys import KeyOwner, KeyProvider
    from affidavit.plugins import Registry

KEYS = "AFFIDAVIT_KEY_PROVIDER"
KIND = "key_provider"


def choose(passphrase: str | None, key: bytes | None = None) -> tuple[str, dict[str, str]]:
    """Name and settings of the provider for a new workspace: what arguments and environment say, by default the key file.

    ``AFFIDAVIT_KEY_PROVIDER`` is a name with settings behind it, as in ``aws_kms key_id=alias/affidavit region=eu-central-1``.

    Raises
    ------
    UsageError
        More than one of a passphrase, a key and a named provider are given, or the latter cannot be read.
    """
    given = os.environ.get(KEYS)
    phrase = passphrase if passphrase is not None else os.environ.get(PASSPHRASE)
    keyed = "a key" if key is not None else KEY if KEY in os.environ else None
    if phrase is not None and keyed:
        raise UsageError(f"Both a passphrase and {keyed} are set; a workspace is sealed by exactly one.", hint="Unset one of the two.")
    if given is None:
        return ("passphrase" if phrase is not None else "environment" if keyed else "file"), {}
    name, settings = _parse(given)
    if (phrase is not None and name != "passphrase") or (keyed and name != "environment"):
        what = "a passphrase" if phrase is not None else keyed
        raise UsageError(f"Both {KEYS} and {what} are set; a workspace is sealed by exactly one.", hint="Unset one of the two.")
    return name, settings


def make(registry: Registry, name: str, settings: Mapping[str, Any], owner: KeyOwner) -> KeyProvider:
    """A provider by its registered name.

    Raises
    ------
    AffidavitError
        The workspace names a provider that is not installed, or that the policy does not allow.
    MissingExtra
        Its library is absent.
    UsageError
        A setting does not fit.
    """
    if (KIND, name) not in registry.entries:
        raise AffidavitError(
            f"Workspace {owner.location} is to be sealed by key provider '{name[:80]}', and none of that name is installed and allowed.",
            hint=f"Known: {', '.join(registry.names(KIND))}. One of your own: install it, and name its distribution in the policy's plugins.allow.",
        )
    provider: KeyProvider = registry.get(KIND, name)(settings, owner)
    return provider


def _parse(text: str) -> tuple[str, dict[str, str]]:
    try:
        name, *pairs = shlex.split(text)
    except ValueError:
        raise UsageError(f"{KEYS} cannot be read.", hint=f"For example {KEYS}='aws_kms key_id=alias/affidavit'.") from None
    return name, parse_settings(pairs)
