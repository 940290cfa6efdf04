"""Checks of a masking operator inside a workspace: what it masks leaves no trace, is masked once, and comes back only where the policy says so."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pyarrow as pa

from affidavit.approver import Approver
from affidavit.errors import Refused, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.kinds.operator.reversal import originals_of
from affidavit.testing.kinds.operator.subject import COLUMN, TABLE, OperatorSubject, people, values_of
from affidavit.testing.reference import Reference
from affidavit.testing.report import Tier
from affidavit.testing.within import PLANTED, enter, governed, in_the_clear, kept
from affidavit.workspace import Workspace

PURPOSE = "conformance"
NOTE, LABEL = "note", "label"
_RULE = {"roles": ["kit"], "purposes": [PURPOSE], "until": "9999-12-31"}


@check("operator", Tier.GOVERNANCE)
def what_it_masks_leaves_no_trace(subject: OperatorSubject) -> None:
    """Under a policy line with the operator no value is in the data set, if none may show, nor in the ledger or a file of the workspace."""
    loaded = _loaded(subject)
    values = subject.column(subject.served[0]).to_pylist()
    planted = [*(str(value) for value in values if value is not None and len(str(value)) >= 6), PLANTED[0]]
    rows = [" ".join(map(str, row)) for row in zip(*(loaded.data.to_list(name) for name in loaded.data.schema.names), strict=True)]
    # row by row: under the key of this workspace one date may become another row's by chance
    own = [(str(value), row) for value, row in zip(values, rows, strict=True) if value is not None and len(str(value)) >= 6]
    own += [(PLANTED[0], row) for row in rows]
    if not subject.shows and any(value in row for value, row in own):
        raise CheckFailed("a value is in the data set although the policy has this operator mask its column.")
    said = json.dumps(subject.case.settings, default=str)  # a policy's own words stand in the ledger
    secret = [value for value in planted if value not in said]
    if in_the_clear(loaded.workspace, secret):
        raise CheckFailed("a value stands in the ledger or a file of the workspace: put none into what field and to_json say.")


@check("operator", Tier.GOVERNANCE)
def what_is_masked_is_masked_once(subject: OperatorSubject) -> None:
    """Training and prediction see the column as loading left it, and fresh rows to predict are masked as those to train on."""
    loaded = _loaded(subject)
    witness = type("Witness", (_Witness,), {"seen": []})
    enter(loaded.workspace, ModelSubject(witness, Reference.type))
    model = loaded.workspace.train(Reference.type, loaded.data)
    loaded.workspace.predict(model, loaded.data.features())
    loaded.workspace.predict(model, _rows(subject).drop_columns([LABEL]))
    masked = values_of(loaded.data.column(COLUMN)) if COLUMN in loaded.data.schema else None
    whose = ("training sees", "prediction sees", "prediction on fresh rows sees")
    for what, seen in zip(whose, witness.seen, strict=True):  # type: ignore[attr-defined]  # made above
        if seen is None or (subject.case.random and what == whose[-1]):
            continue
        if seen != masked:
            raise CheckFailed(
                f"{what} other values than loading left: recognise what is masked already from the value and the key alone, "
                "whatever the field says by then, or set idempotent = False."
            )


@check("operator", Tier.GOVERNANCE)
def only_a_governed_reveal_brings_originals_back(subject: OperatorSubject) -> None:
    """A reveal without a person is refused; under a rule of the policy a reversible operator gives the originals, any other refuses."""
    workspace, data = _loaded(subject).workspace, _loaded(subject).data
    if COLUMN not in data.schema:
        return
    with suppress(Refused, UsageError):
        workspace.reveal(data, fields=[COLUMN], purpose=PURPOSE)
        raise CheckFailed("originals were shown to nobody in particular.")
    with tempfile.TemporaryDirectory() as folder:
        person = Approver.create("kit", Path(folder) / "kit.pem")
    workspace.enrol(person, roles=["kit"])
    try:
        revealed = workspace.reveal(data, fields=[COLUMN], purpose=PURPOSE, by=person)
    except (Refused, UsageError) as error:
        if subject.value.reversible:
            raise CheckFailed(f"a reveal that the policy allows was refused: {error}") from error
        return
    except Exception as error:
        raise CheckFailed(f"a reveal that the policy allows raised {type(error).__name__}: {error}") from error
    if not subject.value.reversible:
        raise CheckFailed("it is not 'reversible', and a reveal gave values.")
    originals = originals_of(subject, subject.served[0])
    if originals is not None and revealed.to_list(COLUMN) != originals:
        raise CheckFailed("a reveal gave other values than were masked.")


class _Witness(Reference):
    """Keeps what reaches it of the column."""

    seen: list[list[Any] | None]

    def fit(self, data: Dataset, training: Training | None = None) -> Any:
        self._see(data)
        return super().fit(data, training)

    def predict(self, data: Dataset) -> Any:
        self._see(data)
        return super().predict(data)

    def _see(self, data: Dataset) -> None:
        features = [field.name for field in data.schema.features]
        type(self).seen.append(values_of(data.column(COLUMN)) if COLUMN in features else None)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A workspace whose policy has the operator mask the column, and findings in texts where it fits those; and the data set loaded there."""

    workspace: Workspace
    data: Dataset


_KEPT: WeakKeyDictionary[OperatorSubject, _Loaded] = WeakKeyDictionary()


def _loaded(subject: OperatorSubject) -> _Loaded:
    """One for the three checks of a subject, closed when the subject is gone."""
    if subject not in _KEPT:
        line = {subject.name: dict(subject.case.settings)}
        lines: dict[str, Any] = {"fields": {COLUMN: line}, "reveal": [_RULE]}
        if subject.fits_texts:
            lines["entities"] = {"EMAIL_ADDRESS": line}
        fields = {COLUMN: {"type": str(subject.field(subject.served[0]).type), "role": "feature"}, NOTE: {"type": "text"}}
        # Given a copy, because what is to end with the subject must not hold it.
        workspace = kept(subject, governed(OperatorSubject(subject.value, subject.name, case=subject.case), masking=lines))
        _KEPT[subject] = _Loaded(workspace, workspace.load(_rows(subject), name=TABLE, target=LABEL, fields=fields))
    return _KEPT[subject]


def _rows(subject: OperatorSubject) -> pa.Table:
    column = subject.column(subject.served[0])
    rows = len(column)
    columns = {COLUMN: column, NOTE: [f"write to {PLANTED[0]} today"] * rows, LABEL: ["yes" if row % 2 else "no" for row in range(rows)]}
    owner = subject.make().subject
    return pa.table({**columns, **({owner: people(rows)} if owner is not None else {})})
