"""Fixtures for model types: through the artifact's door and back, and the private training engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from affidavit.artifacts import ArtifactReader, ArtifactWriter
from affidavit.interfaces.model import Model


def write(model: Model) -> dict[str, bytes]:
    """The files that a model saves, by name."""
    stored: dict[str, bytes] = {}

    def sink(data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        stored[digest] = data
        return digest

    writer = ArtifactWriter(sink)
    model.save(writer)
    return {name: stored[entry["sha256"]] for name, entry in writer.files.items()}


def read(model: Model, files: dict[str, bytes]) -> Any:
    """A model of the same type, parameters and signature from files."""
    manifest = {"params": model.params.model_dump(mode="json"), "signature": model.fitted.to_json()}
    return type(model).load(ArtifactReader(manifest, files))


@pytest.fixture
def saved() -> Callable[[Model], dict[str, bytes]]:
    return write


@pytest.fixture
def loaded() -> Callable[[Model, dict[str, bytes]], Any]:
    return read


@pytest.fixture
def private_engine() -> Callable[[float], Any]:
    """Makes the real private engine for an ε, with a budget that never ends."""
    pytest.importorskip("dp_accounting", reason="needs the extra 'privacy'")
    from affidavit.policy import PrivacyPolicy
    from affidavit_governance.privacy.training.engine import PrivateEngine

    return lambda epsilon: PrivateEngine(PrivacyPolicy(epsilon=epsilon), reserve=lambda events: None)
