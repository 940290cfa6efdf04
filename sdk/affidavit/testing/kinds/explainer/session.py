"""A workspace in which an explainer is tried, with rows that hold personal data, and values that occur once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa

from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.governance import Evidence
from affidavit.interfaces.model import Model
from affidavit.testing.kinds.explainer.subject import BACKGROUND_ROWS, DESCRIBED_ROWS, IDLE, ROWS, STILL, ExplainerSubject, table
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.subjects import once
from affidavit.testing.within import PLANTED, enter, governed, kept, load
from affidavit.workspace import Workspace

MASKED = ("mail", "account")
"""Fields that the policy masks, each as a whole."""

MARK = "kit-mark-41f7"
"""A category that a single row has."""


@dataclass
class Session:
    """A workspace with a trained model."""

    subject: ExplainerSubject
    workspace: Workspace
    model: Model
    data: Dataset

    @property
    def rows(self) -> Dataset:
        """The rows to explain; the first has a category of its own."""
        return self.data.head(DESCRIBED_ROWS if self.subject.scope == "model" else ROWS)

    @property
    def background(self) -> Dataset:
        """The reference rows."""
        return self.data.take(np.arange(len(self.data) - BACKGROUND_ROWS, len(self.data)))

    def explain(self, **options: Any) -> Any:
        """What the workspace gives when it is asked for this explainer by name."""
        calls = {"rows": self.workspace.explain, "model": self.workspace.explain_model, "changes": self.workspace.counterfactuals}
        call: Any = calls[self.subject.scope]
        return call(self.model, self.rows, method=self.subject.name, background=self.background, **{**self.subject.case.options, **options})

    @once
    def made(self) -> tuple[Any, list[Evidence]]:
        """One record, and what it left in the ledger; checks must not change it."""
        known = len(list(self.workspace.ledger.entries("explain")))
        return self.explain(), list(self.workspace.ledger.entries("explain"))[known:]


_open: WeakKeyDictionary[ExplainerSubject, Session] = WeakKeyDictionary()


def session_of(subject: ExplainerSubject) -> Session:
    """One workspace that the checks of `subject` share; each looks only at what came to the ledger meanwhile."""
    if subject not in _open:
        _open[subject] = kept(subject, opened(ExplainerSubject(subject.value, subject.name, subject.claimed, subject.case)))
    return _open[subject]


@contextmanager
def opened(subject: ExplainerSubject) -> Iterator[Session]:
    """A workspace whose policy masks two fields and bounds no surrogate's fit."""
    own = subject.case.data
    masking = {"fields": dict.fromkeys(MASKED, "pseudonym")} if own is None else {}
    with governed(subject, masking=masking, explain={"min_local_r2": 0.0}) as workspace:
        kind = subject.model_type
        enter(workspace, ModelSubject(kind, kind.type, frozenset(kind.capabilities.names)))
        data = load(workspace, planted() if own is None else own)
        yield Session(subject, workspace, workspace.train(kind.type, data, **subject.case.params), data)


def planted() -> Dataset:
    """The kit's rows, with personal data in two columns and a category that a single row has."""
    rows = table()
    columns = {name: rows.table.column(name) for name in rows.schema.names if name not in (IDLE, STILL)}
    given = np.array([f"{row % 5}.{PLANTED[0]}" for row in range(len(rows))])
    columns["colour"] = pa.array([MARK, *rows.to_list("colour")[1:]])
    columns |= {"mail": pa.array(given), "account": pa.array([f"{PLANTED[2]}{row % 4}" for row in range(len(rows))])}
    return Dataset.from_arrow(columns, name="planted", target="label", fields={name: {"type": "categorical"} for name in MASKED})
