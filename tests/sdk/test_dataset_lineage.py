"""A data set's roots follow it: through everything that makes a data set of another, and by declaration to files made elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from affidavit.errors import UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.project import Job
from affidavit.workspace import Workspace

TABLE = pa.table({"x": [1.0, 2.0, 3.0, 4.0, 4.0, None], "mail": ["a@example.org"] * 6, "y": ["n", "p", "n", "p", "p", "n"]})

WAYS: dict[str, Callable[[Dataset], Dataset | tuple[Dataset, ...]]] = {
    "select": lambda data: data.select(["x", "y"]),
    "features": lambda data: data.features(),
    "take": lambda data: data.take([0, 2]),
    "head": lambda data: data.head(2),
    "filter": lambda data: data.filter([True] * 5 + [False]),
    "replace_column": lambda data: data.replace_column("x", pa.array([0.0] * 6)),
    "with_schema": lambda data: data.with_schema(data.schema),
    "clean": lambda data: data.clean(missing="drop"),
    "split": lambda data: data.split(test=0.5),
    "derive": lambda data: data.derive(data.table, data.schema, "test"),
    "declare": lambda data: data.declare(["f" * 64]),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_made_of_a_data_set_keeps_its_roots(way: str) -> None:
    data = Dataset.from_arrow(TABLE, target="y").head(6).declare(["e" * 64])  # derived and declared itself
    made = WAYS[way](data)
    for part in made if isinstance(made, tuple) else (made,):
        assert part.roots >= data.roots > {"e" * 64}
        assert part.roots - data.roots == ({"f" * 64} if way == "declare" else set())


def test_no_way_to_make_a_data_set_of_another_is_forgotten_here() -> None:
    makes = {
        name for name, member in inspect.getmembers(Dataset, inspect.isfunction)
        if not name.startswith("_") and "Dataset" in str(inspect.signature(member).return_annotation)
    }  # fmt: skip
    assert makes == set(WAYS)


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace(tmp_path / "ws", actor="dora") as opened:
        yield opened


def test_masking_keeps_the_roots(workspace: Workspace) -> None:
    data = workspace.load(TABLE, target="y")
    assert [step.operation for step in data.lineage] == ["mask"]
    assert data.roots == Dataset.from_arrow(TABLE, target="y").roots


def test_rows_declared_to_come_from_others_have_their_roots_and_their_own(workspace: Workspace) -> None:
    first, second = workspace.load(TABLE, target="y", name="one"), workspace.load(TABLE.slice(1), target="y", name="two")
    changed = TABLE.set_column(0, "x", pa.array([9.0] * 6))
    made = workspace.load(changed, target="y", derived_from=[first, second.fingerprint])
    own = Dataset.from_arrow(changed, target="y").fingerprint
    assert made.roots == first.roots | second.roots | {own}
    assert made.split(test=0.5)[0].roots == made.roots
    *_, evidence = workspace.ledger.entries("load")
    assert evidence.predicate["details"]["derived_from"] == sorted(first.roots | second.roots)
    assert evidence.predicate["details"]["roots"] == sorted(made.roots)


def test_a_fingerprint_may_be_cut_and_stands_for_all_that_its_data_set_came_from(workspace: Workspace) -> None:
    first = workspace.load(TABLE, target="y", name="one")
    second = workspace.load(TABLE.slice(1), target="y", name="two", derived_from=first)
    (own,) = second.roots - first.roots
    for given in (second.fingerprint[:12], own[:12], own):
        assert workspace.load(TABLE.slice(2), target="y", derived_from=given).roots > second.roots
    workspace.load(TABLE.slice(1), target="y", name="two")  # loaded again, undeclared: the declaration stays
    assert workspace.load(TABLE.slice(2), target="y", derived_from=own).roots > second.roots


@pytest.mark.parametrize("given", ["f" * 64, "", "ab", "no fingerprint"])
def test_an_unknown_parent_is_refused(workspace: Workspace, given: str) -> None:
    workspace.load(TABLE, target="y")
    with pytest.raises(UsageError, match="names no data set"):
        workspace.load(TABLE, target="y", derived_from=given)


def test_a_project_file_declares_it_too(tmp_path: Path) -> None:
    pyarrow.csv.write_csv(TABLE, tmp_path / "data.csv")
    with Workspace(tmp_path / "out" / "workspace") as opened:
        parent = opened.load(TABLE.slice(1), target="y")
    project = "name: tiny\ndataset: {source: data.csv, target: y, derived_from: [%s]}\nmodel: {type: tabular.mlp}\n"
    (tmp_path / "project.yaml").write_text(project % parent.fingerprint)
    job = Job(tmp_path / "project.yaml")
    with job.open() as opened:
        train, _ = job.data(opened)
        assert train.roots > parent.roots
