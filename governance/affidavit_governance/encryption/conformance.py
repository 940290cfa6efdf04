"""How the conformance kit tries what encryption registers."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from affidavit.testing import KeyProviderCase, Skip, TargetCase
from affidavit.testing.kinds.key_provider.subject import variables
from affidavit.testing.subjects import Case
from affidavit_governance.encryption.providers.file import HOME

_VARIABLE = "AFFIDAVIT_CONFORMANCE_KEY"


def _folder(place: Path) -> dict[str, Any]:
    return {"folder": place / "model"}


@contextlib.contextmanager
def _key_folder() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, variables(**{HOME: folder}):
        yield


def _other_folder() -> AbstractContextManager[None]:
    return variables(**{HOME: os.path.join(os.environ[HOME], "elsewhere")})  # noqa: PTH118 - an environment variable


def _key_variable() -> AbstractContextManager[None]:
    return variables(**{_VARIABLE: base64.b64encode(os.urandom(32)).decode()})


@contextlib.contextmanager
def _bring_your_own() -> Iterator[None]:
    raise Skip("it needs a key of its own: give check_plugin a KeyProviderCase with 'around' and 'lost' in cases")
    yield


KEY_PROVIDERS: list[Case] = [
    KeyProviderCase(name="file", around=_key_folder, lost=_other_folder),
    KeyProviderCase(name="passphrase", passphrase="correct horse battery staple"),
    KeyProviderCase(name="environment", settings={"variable": _VARIABLE}, around=_key_variable, lost=lambda: variables(**{_VARIABLE: None})),
    *(KeyProviderCase(name=name, around=_bring_your_own) for name in ("pkcs11", "aws_kms", "vault")),
]
"""Those without a server or a device can be tried anywhere."""

CASES: list[Case] = [TargetCase(name="signed-folder", options=_folder, registered=True), *KEY_PROVIDERS]
