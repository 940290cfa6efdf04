"""What the pages on privacy say is so: their numbers are computed, their commands exist, their evidence keys are in real evidence."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from affidavit.cli import app
from affidavit.policy import PrivacyPolicy
from affidavit.workspace import Workspace

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "privacy.md", DOCS / "choosing-privacy-parameters.md"]


def name(page: Path) -> str:
    return page.stem


def commands(page: Path) -> list[str]:
    text = page.read_text()
    blocks = "".join(body for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M) if language == "bash").splitlines()
    return [line.strip() for line in blocks + re.findall(r"`(affidavit [^`]+)`", text) if line.strip().startswith("affidavit ")]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_on_the_page_exist_with_their_options(page: Path) -> None:
    assert len(commands(page)) >= 3
    for line in commands(page):
        _, *words = shlex.split(line)
        command = get_command(app)
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, line
        if hasattr(command, "commands"):  # a group takes no other words
            assert all(word.startswith("-") or before.startswith("-") for before, word in zip(["-", *words], words, strict=False)), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_policy_keys_on_the_page_exist(page: Path) -> None:
    keys = set(re.findall(r"`privacy\.([a-z_]+)`", page.read_text()))
    assert keys and keys <= set(PrivacyPolicy.model_fields)


def test_the_evidence_keys_on_the_page_are_in_the_evidence(tmp_path: Path) -> None:
    rows = re.findall(r"^\| (`.*?) \|", (DOCS / "privacy.md").read_text(), re.M)
    keys = {key for row in rows for key in re.findall(r"`([a-z_]+)`", row)}
    assert len(keys) >= 15
    generator = np.random.default_rng(0)
    columns = {"a": generator.normal(size=80), "y": ["n", "p"] * 40}
    with Workspace(tmp_path / "ws", policy={"privacy": {"delta": 1e-3}}) as workspace:
        workspace.train("tabular.mlp", workspace.load(columns, target="y"), hidden=[2], epochs=1)
        *_, outcome = workspace.ledger.entries("train")
    statement = outcome.predicate["stages"]["privacy"]
    assert keys <= set(statement)
    assert statement["steps"] == statement["steps_planned"]


def test_what_the_page_says_of_statistics_and_shuffling_is_what_the_engine_does() -> None:
    from affidavit_governance.privacy import Event
    from affidavit_governance.privacy.randomness import Randomness
    from affidavit_governance.privacy.training.engine import STATISTICS_SHARE
    from affidavit_governance.privacy.training.sampling import make_sampler

    assert "a tenth of a run's privacy goes there" in PAGES[1].read_text()
    assert STATISTICS_SHARE == 0.1
    shuffled = make_sampler("shuffle", Randomness(), rows=10_000, rate=1 / 40, steps_per_epoch=40)
    assert shuffled.event(20 * 40, 1.37, "add-or-remove-one", 1) == Event("gaussian", 1.37, sampling_rate=1.0, steps=20)
