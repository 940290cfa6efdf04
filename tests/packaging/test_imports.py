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
