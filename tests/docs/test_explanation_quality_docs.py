"""What the pages on the quality and the privacy of explanations show is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from affidavit.policy import ExplainPolicy, parse_model, read_yaml
from affidavit_governance.explain.quality.metrics import METRICS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["explanation-quality", "explanation-privacy"])
def test_the_policy_on_the_page_is_valid(name: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / f"{name}.md").read_text(), re.S)
    (tmp_path / "policy.yaml").write_text(example)
    policy = parse_model(ExplainPolicy, read_yaml(tmp_path / "policy.yaml")["explain"], whose="docs")
    assert {gate.metric for gate in policy.gates} <= set(METRICS)


def test_the_table_names_each_metric_and_each_mode() -> None:
    page = (DOCS / "explanation-quality.md").read_text()
    assert {name for name in METRICS if f"| `{name}` |" in page} == set(METRICS)
    modes = ExplainPolicy.model_fields["release"].annotation.__args__  # type: ignore[union-attr]
    assert all(f"| `{mode}` |" in (DOCS / "explanation-privacy.md").read_text() for mode in modes)
