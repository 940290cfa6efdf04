"""What the page on names shows is what happens, with a small model and a small pipeline in the folders that it names."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from tests.docs.pages import blocks, run_page

from affidavit.policy import MaskingPolicy

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/masking-names.md"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    spacy = pytest.importorskip("spacy", reason="needs the extra 'presidio'")
    spec = importlib.util.spec_from_file_location("small_names", ROOT / "tests/plugins/text/test_text_names.py")
    assert spec is not None and spec.loader is not None
    small = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(small)
    small.train_lexicon(tmp_path / "models/ner")
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Greta Novak"}])
    pipeline.to_disk(tmp_path / "models/spacy")
    return tmp_path


def test_the_examples_on_the_page_give_what_it_says(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)
    run_page("masking-names")


def test_the_policies_on_the_page_are_policies_and_their_settings_exist() -> None:
    from affidavit_governance.masking.recognizers.presidio import PresidioSettings
    from affidavit_plugins.text.names import LABELS, NamesSettings

    lines = {
        name: settings
        for block in blocks("masking-names", "yaml")
        for name, settings in MaskingPolicy(**yaml.safe_load(block.code)["masking"]).recognizers.items()
    }
    assert NamesSettings(**lines["names"]).batch_size == NamesSettings.model_fields["batch_size"].default
    assert PresidioSettings(**lines["presidio"]).model == "models/spacy"
    page = PAGE.read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) == set(NamesSettings.model_fields)
    assert all(f"`{label}`" in page and f"`{entity}`" in page for label, entity in LABELS.items())
