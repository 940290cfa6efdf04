"""How pycanon.json was made: ``python make_pycanon.py DATA_FOLDER pycanon.json`` in an environment of its own (pycanon 1.3.6, numpy 2.0.2, pandas 2.3.3).

Missing values become "?" first, because pycanon leaves rows without a quasi-identifier out.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from pycanon import anonymity
from pycanon.anonymity.utils import aux_anonymity
from pycanon.metrics import _reidentification_metrics as risk

CASES = [
    ("adult", ["age", "education", "occupation", "relationship", "sex", "native_country"], ["income"]),
    ("adult", ["sex", "race"], ["income", "hours_per_week"]),
    ("adult", ["workclass", "education", "sex"], ["occupation", "hours_per_week"]),
    ("adult", ["decade", "sex", "race"], ["education", "education_num"]),
    ("german", ["age", "personal_status_sex", "job", "housing"], ["credit_risk", "credit_amount"]),
    ("german", ["personal_status_sex", "foreign_worker"], ["purpose", "credit_amount", "duration_months"]),
    ("adult", ["sex"], ["education", "marital_status", "hours_per_week"]),
    ("german", ["telephone", "personal_status_sex"], ["credit_risk", "savings", "credit_amount"]),
    ("german", ["telephone", "decade"], ["savings", "installment_rate"]),
]


def figures(data, quasi, sensitive):
    alpha, k = anonymity.alpha_k_anonymity(data, quasi, sensitive)
    c, _ = anonymity.recursive_c_l_diversity(data, quasi, sensitive)
    return {
        "k": int(k),
        "alpha": float(alpha),
        "l": int(anonymity.l_diversity(data, quasi, sensitive)),
        "entropy_l": int(anonymity.entropy_l_diversity(data, quasi, sensitive)),
        "recursive_c": None if c != c else float(c),
        "t": float(anonymity.t_closeness(data, quasi, sensitive)),
    }


def main():
    folder = Path(sys.argv[1])
    tables = {"adult": pd.read_csv(folder / "adult_train.csv.gz"), "german": pd.read_csv(folder / "german_credit.csv")}
    found = []
    for name, quasi, sensitive in CASES:
        data = tables[name].assign(decade=tables[name]["age"] // 10 * 10)
        data = data.fillna(dict.fromkeys(data.select_dtypes("object"), "?"))
        classes = [len(rows) for rows in aux_anonymity.get_equiv_class(data, quasi)]
        case = {"data": name, "quasi_identifiers": quasi, "rows": len(data), "classes": len(classes)}
        case["mean_risk_of_classes"] = float(risk.average_rir(data, quasi))
        case["max_risk"] = float(risk.max_rir(data, quasi))
        case["sensitive"] = {column: figures(data, quasi, [column]) for column in sensitive}
        case["together"] = figures(data, quasi, sensitive)
        found.append(case)
        print(name, quasi, case["together"], flush=True)
    made = f"make_pycanon.py with pycanon {version('pycanon')}, numpy {version('numpy')}, pandas {version('pandas')}; missing values as '?'; decade is age // 10 * 10"
    Path(sys.argv[2]).write_text(json.dumps({"how_made": made, "cases": found}, indent=1))


main()
