"""What measuring and reaching anonymity costs on a million rows."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from affidavit_governance.masking.anonymity.measures import entropy_l_diversity, k_anonymity, l_diversity, t_closeness
from affidavit_governance.masking.anonymity.mondrian import anonymise
from affidavit_governance.masking.anonymity.risk import reidentification_risk

ROWS = 1_000_000
QUASI = ["age", "zip", "sex", "job"]


def main() -> None:
    """Print one line a measure."""
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "age": generator.integers(18, 90, ROWS),
            "zip": generator.integers(0, 900, ROWS).astype(str),
            "sex": generator.integers(0, 2, ROWS).astype(str),
            "job": generator.integers(0, 40, ROWS).astype(str),
            "illness": generator.integers(0, 30, ROWS).astype(str),
            "income": generator.normal(30_000, 10_000, ROWS).round(),
        }
    )
    ways: dict[str, Callable[[], object]] = {
        "k-anonymity": lambda: k_anonymity(table, QUASI).value,
        "distinct l-diversity": lambda: l_diversity(table, QUASI, "illness").value,
        "entropy l-diversity": lambda: entropy_l_diversity(table, QUASI, "illness").value,
        "t-closeness, categories": lambda: t_closeness(table, QUASI, "illness").value,
        "t-closeness, numbers": lambda: t_closeness(table, QUASI, "income").value,
        "risk": lambda: reidentification_risk(table, QUASI).prosecutor,
        "Mondrian to k = 5": lambda: anonymise(table, QUASI, 5).classes,
    }
    print(f"{ROWS} rows, {len(QUASI)} quasi-identifiers, {k_anonymity(table, QUASI).classes.sizes.size} classes; processor time")
    for way, call in ways.items():
        begin = time.process_time()
        result = call()
        print(f"{way:<26} {time.process_time() - begin:6.2f} s   (value {result:.4g})")
