"""Keeps an artifact of each bundled model type in ``kept/``, as this version writes it: ``python -m tests.conformance.keep``.

Run it at a release, and once more where a format changes. What is there stays: every later version has to read it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import affidavit
from affidavit.errors import MissingExtra
from affidavit.plugins import bundled_registry
from affidavit.testing import ModelCase, keep_artifact
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit_plugins.tabular import conformance as tabular
from affidavit_plugins.text import conformance as text
from affidavit_plugins.vision import conformance as vision

SMALL = {"vision.cnn": {"epochs": 2, "channels": [4], "hidden": 8}}
"""Parameters that keep a file small, where those that keep training short do not."""

FOLDER = Path(__file__).parent / "kept"


def kept(name: str) -> tuple[Path, ...]:
    """The kept artifacts of a model type."""
    return tuple(sorted(FOLDER.glob(f"{name}-*.zip")))


def cases() -> list[ModelCase]:
    """How the kit tries each bundled model type, with its kept artifacts."""
    brought = [case for case in (*tabular.CASES, *text.CASES, *vision.CASES) if isinstance(case, ModelCase)]
    others = set(bundled_registry().names("model")) - {case.name for case in brought}
    return [replace(case, kept=kept(case.name)) for case in (*brought, *(ModelCase(name=name) for name in sorted(others)))]


def main() -> None:
    """Write those that are missing for this version."""
    registry = bundled_registry()
    for name in registry.names("model"):
        path = FOLDER / f"{name}-{affidavit.__version__}.zip"
        case = next(case for case in cases() if case.name == name and not case.label)
        case = replace(case, params={**case.params, **SMALL.get(name, {})})
        if path.exists():
            continue
        try:
            subject = ModelSubject(registry.get("model", name), name, case=case)
        except MissingExtra as error:
            print(error)
            continue
        keep_artifact(subject.fitted, subject.rows.head(6), path)
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
