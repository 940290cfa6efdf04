"""What the explainers of a model as a whole share: the rows, the players, keys of everything random, and the record."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import GlobalExplanation
from affidavit.interfaces.model import Metric, Model
from affidavit_governance.explain.case import Options, Score
from affidavit_governance.explain.players.base import ROWS_AT_ONCE
from affidavit_governance.explain.players.grouping import Grouping, grouped, is_masked

LEAST_ROWS = 2
"""Of data: one row has no spread, and so no interval."""


@dataclass(frozen=True, slots=True)
class Whole:
    """What one call describes: a model over rows.

    Attributes
    ----------
    data
        The rows in the model's own columns.
    given
        The rows as they came, with their target.
    """

    score: Score
    data: Dataset
    given: Dataset
    grouping: Grouping
    options: Options
    method: str

    @classmethod
    def open(cls, model: Model, data: Dataset, options: Options, method: str, *, least: int = LEAST_ROWS) -> Whole:
        """Bring the rows into the model's columns.

        Raises
        ------
        InvalidInput
            There are fewer than `least` rows.
        UsageError
            A group names what is no input.
        """
        rows = model.fitted.conform(data)
        if len(rows) < least:
            raise InvalidInput(f"Explainer '{method}' was given {len(rows)} rows.", hint=f"Pass {least} at least; hundreds give narrow intervals.")
        return cls(Score(model, options.label), rows, data, grouped(list(model.fitted.inputs), options.groups), options, method)

    def generator(self, *key: object) -> np.random.Generator:
        """Random numbers that depend on the rows, the model, the configuration and `key`, and on nothing else."""
        parts = (self.data.fingerprint, self.score.model.type, self.options.model_digest, self.score.label, self.method, self.options.seed, *key)
        digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:16], "big"))

    def answers(self, data: Dataset) -> NDArray[np.float64]:
        """The explained number of each row, asked in chunks."""
        starts = range(0, len(data), ROWS_AT_ONCE)
        return np.concatenate([self.score(Dataset(data.table.slice(start, ROWS_AT_ONCE), data.schema)) for start in starts])

    @property
    def hidden(self) -> frozenset[str]:
        """Fields whose values may not be told: the masked ones, and those that are one player with them."""
        masked = {field.name for field in (*self.data.schema, *self.score.model.fitted.inputs) if is_masked(field)}
        return frozenset(name for fields in self.grouping.members.values() if masked.intersection(fields) for name in fields)

    def record(
        self,
        rows: int,
        *,
        importance: Mapping[str, Metric] | None = None,
        curves: Mapping[str, Mapping[str, list[Any]]] | None = None,
        rules: tuple[str, ...] = (),
        fidelity: Mapping[str, Metric] | None = None,
        output: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> GlobalExplanation:
        """The record of this call."""
        return GlobalExplanation(
            method=self.method,
            output=self.score.output if output is None else output,
            rows=rows,
            importance=importance or {},
            curves=curves or {},
            rules=rules,
            fidelity=fidelity or {},
            details={
                "label": self.score.label,
                "data": self.data.fingerprint,
                "seed": self.options.seed,
                "groups": {name: list(fields) for name, fields in self.grouping.members.items() if len(fields) > 1},
                "model_rows": self.score.rows,
                **(details or {}),
            },
        )
