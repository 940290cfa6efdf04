"""What importing pulls in: the core stays light, and the command line's help stays lighter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "sklearn", "shap", "pandas", "transformers", "lime", "matplotlib", "fastapi", "opacus", "polars"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    probe = f"{code}\nimport sys, json; sys.stdout.write(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_affidavit_imports_nothing_heavy() -> None:
    loaded = modules_after("import affidavit")
    assert "affidavit" in loaded
    assert not loaded & (HEAVY | {"pyarrow", "sqlalchemy", "numpy", "pydantic"})


def test_the_whole_core_imports_nothing_heavy() -> None:
    loaded = modules_after("import affidavit; affidavit.Workspace; affidavit.Project; affidavit.Approver")
    assert {"pyarrow", "sqlalchemy"} <= loaded
    assert not loaded & HEAVY


def test_the_command_line_imports_nothing_of_the_core_before_a_command_runs() -> None:
    loaded = modules_after("import affidavit.cli")
    assert not loaded & (HEAVY | {"pyarrow", "sqlalchemy", "numpy"})


def test_loading_every_plugin_imports_nothing_heavy() -> None:
    loaded = modules_after("from affidavit.plugins import PluginManager; m = PluginManager(); m.load_plugins(); assert not m.failures, m.failures")
    assert not loaded & HEAVY


def test_every_public_name_can_be_imported() -> None:
    import affidavit

    for name in affidavit.__all__:
        assert getattr(affidavit, name) is not None
    with pytest.raises(AttributeError):
        _ = affidavit.no_such_name


def test_a_model_of_scikit_learn_is_trained_stored_and_loaded_without_torch() -> None:
    """Which skops would import with all of scikit-learn's packages, for nothing: it trusts the same types."""
    loaded = modules_after(
        "from affidavit import skops_format as f; from sklearn.linear_model import LinearRegression\n"
        "data = f.dump(LinearRegression().fit([[0], [1]], [0, 1]), 'line'); assert f.load(data, 'line', ()).coef_[0] > 0.9"
    )
    assert "skops" in loaded and not loaded & {"torch", "shap", "transformers"}


def test_skops_trusts_what_it_trusts_when_it_is_imported_alone() -> None:
    known = "from skops.io import _trusted_types as t; names = sorted(t.SKLEARN_ESTIMATOR_TYPE_NAMES); assert len(names) > 150; print(names)"
    said = [
        subprocess.run([sys.executable, "-c", f"{before}{known}"], capture_output=True, text=True, check=True).stdout
        for before in ("", "from affidavit import skops_format as f; f.dump(1, 'one'); ")
    ]
    assert said[0] == said[1]
