"""The pages on counterfactuals, cohorts and reasons: their examples give what they say, and their tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from affidavit_governance.explain.case import Options
from affidavit_governance.explain.counterfactuals import explainer, space
from affidavit_governance.explain.overall import cohorts

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_options_names_those_of_the_explainer() -> None:
    text = (DOCS / "counterfactuals.md").read_text()
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in row}
    assert named - {"background", "budget", "seconds", "groups"} == set(explainer._OWN)
    assert Options.read("counterfactual", {"budget": 1, "seconds": 1.0, "groups": {}}, sampled=True)


def test_the_figures_named_are_the_ones_used() -> None:
    text = " ".join((DOCS / "counterfactuals.md").read_text().split())
    assert explainer.Counterfactual.default_budget == 4096 and "| 4096 rows |" in text
    assert explainer.REFERENCE_ROWS == 1000 and "1,000 at most" in text
    assert space.OPTIONS == 16 and "(16 a field)" in text and space.SPARSITY == 1
    assert cohorts.SMALL == 30 and "fewer than 30 rows" in text and cohorts.RESAMPLES == 999 and "999 reassignments" in text
