"""Made-up values in the place of real ones."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Annotated, Literal

import pyarrow as pa
from pydantic import Field as Setting

from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators.contents import in_rows
from affidavit_governance.masking.operators.fakes import Maker, kind_of
from affidavit_governance.masking.operators.simple import REDACTED

_ATTEMPTS = 16


class SyntheticSettings(Settings):
    """`kind` says what to make; without it the column's entity does, and ``shape`` where there is none. `locale` (such as ``de_DE``) is for
    names and addresses; without it the script of each value decides. `namespace` keeps columns apart that must not be linked."""

    kind: (
        Literal["name", "email", "phone", "address", "city", "company", "url", "ip", "iban", "card", "ssn", "resident_id", "date", "shape"] | None
    ) = None
    locale: Annotated[str, Setting(pattern=r"^[a-z]{2,3}_[A-Z]{2}$")] | None = None
    namespace: str = ""


class Synthetic(Operator):
    """Replaces each value by a made-up one of the same kind, format and locale, which never is the value itself.

    The same value gives the same stand-in in every column of one kind and namespace: a generator is seeded with the keyed BLAKE2b of the
    value. Two values may get the same stand-in, so joins on them are not exact, and nothing turns them back. Cards, IBANs and resident
    ids have valid check digits; e-mail addresses and URLs lie in domains reserved for examples (RFC 2606).
    """

    name = "synthetic"
    Settings = SyntheticSettings
    idempotent = False
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        assert isinstance(self.settings, SyntheticSettings)
        kind = self.settings.kind or kind_of(field.entity or field.name)
        maker = Maker(kind, self.settings.locale)
        bound = "\x00".join((kind, self.settings.namespace)).encode()
        base = hashlib.blake2b(len(bound).to_bytes(4, "big") + bound, digest_size=16, key=context.derive("synthetic"), person=b"affidavit-sy-1")
        known: dict[str, str] = {"": ""}

        def change(texts: pa.Array) -> pa.Array:
            values = texts.to_pylist()
            for value in values:
                if value not in known:
                    state = base.copy()
                    state.update(value.encode())
                    known[value] = _make(maker, value, int.from_bytes(state.digest(), "big"))
            return pa.array([known[value] for value in values], pa.large_string())

        return in_rows(column, field, "a synthetic value", change)

    def field(self, field: Field) -> Field:
        kind = field.type if field.type is FieldType.TEXT else FieldType.CATEGORICAL
        return replace(super().field(field), type=kind, bounds=None, shape=None)


def _make(maker: Maker, value: str, seed: int) -> str:
    for attempt in range(_ATTEMPTS):
        made = maker.make(value, seed + attempt)
        if made.casefold() != value.casefold():
            return made
    return REDACTED  # such as a value without letters and digits, which has no other of its shape
