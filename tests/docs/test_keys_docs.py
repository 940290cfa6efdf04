"""What the pages on keys and encryption say is so."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
from tests.docs.pages import run_page
from typer.main import get_command

from affidavit.cli import app
from affidavit.cli.keys import NEW_PASSPHRASE
from affidavit.errors import MissingExtra
from affidavit.plugins import RegistryWriter, bundled_registry
from affidavit_governance.encryption import envelope, rotation
from affidavit_governance.encryption.envelope import Context
from affidavit_governance.encryption.keyring import LEASE_SECONDS
from affidavit_governance.encryption.providers import KEYS

DOCS = Path(__file__).parents[2] / "docs"
KEYS_PAGE = (DOCS / "keys.md").read_text()
ENCRYPTION_PAGE = (DOCS / "encryption.md").read_text()


def test_the_commands_on_the_page_exist_with_their_options() -> None:
    lines = [line.split("  ")[0] for line in KEYS_PAGE.splitlines() if line.startswith("affidavit keys")]
    assert len(lines) == 5
    group = get_command(app).commands["keys"]
    for line in lines:
        words = shlex.split(line)[2:]
        command = group.commands[words[0]] if words else group
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known
        assert {"--workspace", "--json"} <= known
    assert {name for name, command in group.commands.items() if "--actor" in {o for p in command.params for o in p.opts}} == set(group.commands)


def test_the_table_of_providers_is_the_registry_s_with_extras_and_settings() -> None:
    registry = bundled_registry()
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| ([^|]*)\| ([^|]*)\|", KEYS_PAGE, re.M)
    assert {row[0] for row in rows} == set(registry.names("key_provider"))
    for name, extra, settings, environment in rows:
        entry = registry.entries["key_provider", name]
        assert entry.extra == (extra or None)
        try:
            provider = registry.get("key_provider", name)
        except MissingExtra as error:
            pytest.skip(str(error))
        named = re.findall(r"`(\w+)`", settings)
        if name != "passphrase":  # salt and cost are its own affair
            assert named == [*provider.required, *provider.optional]
        source = Path(str(__import__(provider.__module__, fromlist=["x"]).__file__)).read_text()
        for variable in re.findall(r"`([A-Z_0-9]+)`", environment):
            assert variable in source


def test_the_variables_and_figures_on_the_page_are_those_of_the_code() -> None:
    assert f"`{KEYS}`" in KEYS_PAGE
    assert f"`{NEW_PASSPHRASE}`" in KEYS_PAGE
    assert f"batches of {rotation.BATCH} rows" in KEYS_PAGE
    assert rotation.GRACE.total_seconds() == 600
    assert LEASE_SECONDS == 60
    assert f"head of {envelope.HEAD_BYTES} bytes" in KEYS_PAGE


def test_the_registration_on_the_page_is_accepted() -> None:
    writer = RegistryWriter(bundled_registry(), "mine")
    run_page("keys", {"registry": writer})
    assert [(entry.kind, entry.name) for entry in writer.added] == [("key_provider", "cupboard")]


def test_the_layout_on_the_page_is_that_of_an_envelope() -> None:
    rows = dict(re.findall(r"^\| (head|body) \| ([^|]+) \|", ENCRYPTION_PAGE, re.M))
    assert rows == {"head": str(envelope.HEAD_BYTES), "body": f"{envelope.BODY_OVERHEAD} + n"}
    sealed = envelope.seal(os.urandom(32), bytes(8), b"abc", Context("w", "p", "n"))
    assert sealed.startswith(b"AFDV\x02")
    assert len(sealed) == envelope.HEAD_BYTES + envelope.BODY_OVERHEAD + 3
    assert envelope.MAX_PLAINTEXT < 2**31
