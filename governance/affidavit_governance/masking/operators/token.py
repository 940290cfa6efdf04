"""Tokens that their key turns back: deterministic authenticated encryption."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from affidavit.errors import IntegrityError, Refused
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.encryption import ragged
from affidavit_governance.encryption.siv import SIV, TAG_BYTES
from affidavit_governance.masking.operators import base32
from affidavit_governance.masking.operators.contents import Contents, contents_of, subjects_of, utf8

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = b"tok1_"
PATTERN = re.compile(r"tok1_[a-z2-7]{26,}")
"""What has the shape of a token, in a text."""
_FEW = 16  # so few values under one key are not worth the arrays


class TokenSettings(Settings):
    """`namespace`, in the place of the column's name (or the entity's), makes the tokens of several columns comparable, and interchangeable.
    `subject` names the column that says whose a row is; each subject then has a key of their own, and destroying it makes their tokens
    unreadable."""

    namespace: str = ""
    subject: str | None = None


class Token(Operator):
    """Replaces each value by a token that the same key turns back: AES-256-SIV (RFC 5297), in base32 behind ``tok1_``.

    Bound to the name of the column (or to the entity, where the policy's line is one for an entity), or to a `namespace`: within it equal
    values get equal tokens in every table, file and text under one key, whatever their Arrow type, so a join on tokens gives what a join on
    the originals gives. A token is as much longer as its value is, so it shows the value's length. It authenticates itself: one that was
    changed, or is of another column or key, is refused, and what is a token already stays.
    With a `subject`, equal values of one subject get equal tokens, those of two subjects do not.
    """

    name = "token"
    Settings = TokenSettings
    reversible = True
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        keyed = self._keyed(column, field, context)
        values = keyed.contents.values
        utf8(keyed.contents, field, "a token")
        sealed, at = base32.decode(values, PREFIX)
        already = at[keyed.open(sealed, at)[1]]
        fresh = np.ones(len(values), dtype=np.bool_)
        fresh[already] = False
        new = np.flatnonzero(fresh)
        tokens = base32.encode(keyed.seal(values.filter(pa.array(fresh)), new), PREFIX)
        if len(already):
            tokens = ragged.regroup([tokens, values.take(pa.array(already)).cast(pa.large_string())], [new, already])
        return keyed.contents.spread(tokens)

    def reverse(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        keyed = self._keyed(column, field, context, create=False)
        sealed, at = base32.decode(keyed.contents.values, PREFIX)
        opened, right = keyed.open(sealed, at)
        refuse_others(keyed.contents, at[right], field, len(column))
        return keyed.contents.spread(opened.take(pa.array(np.argsort(at))).cast(pa.large_string()))

    def field(self, field: Field) -> Field:
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None, shape=None)

    def _keyed(self, column: pa.ChunkedArray, field: Field, context: MaskContext, *, create: bool = True) -> _Keyed:
        assert isinstance(self.settings, TokenSettings)
        contents = contents_of(column, field, "a token")
        associated = [b"affidavit token v1", bound_to(self.settings.namespace, field).encode()]
        secret = context.derive("token", 64)
        if self.settings.subject is None:
            return _Keyed(contents, associated, [secret], None)
        if context.subject_keys is None:
            raise outside(field, "A token with a subject's key")
        subjects = subjects_of(column, context.subjects, field, self.name)
        pairs, owners = paired(contents, subjects, len(column))
        used, numbered = np.unique(owners, return_inverse=True)
        names = utf8(subjects, field, "a subject").take(pa.array(used)).to_pylist()
        keys = context.subject_keys.keys(names, create=create) if names else []
        # Both secrets are needed: the subject's, which can be destroyed, and the workspace's.
        both = [hashlib.blake2b(secret, digest_size=64, key=key, person=b"affidavit-tk-1").digest() for key in keys]
        return _Keyed(pairs, associated, both, numbered)


def bound_to(namespace: str, field: Field) -> str:
    """What tokens are bound to, so that none opens in the place of another column's."""
    return f"namespace:{namespace}" if namespace else f"field:{field.name}"


class _Keyed:
    """Values, and the key of each one.

    Parameters
    ----------
    owners
        For each value the position of its key; None where there is one key for all.
    """

    def __init__(self, contents: Contents, associated: list[bytes], keys: list[bytes], owners: NDArray[np.int64] | None) -> None:
        self.contents = contents
        self._associated = associated
        self._keys = keys
        self._owners = owners

    def seal(self, values: pa.LargeBinaryArray, at: NDArray[np.int64]) -> pa.LargeBinaryArray:
        """The ciphertexts of values that stand at these positions."""
        if self._owners is None:
            return SIV(self._keys[0], self._associated).encrypt(values)
        plain: list[bytes] = values.to_pylist()
        sealed: list[bytes] = [b""] * len(plain)
        for owner, places in ragged.buckets(self._owners[at]):
            chosen = [plain[place] for place in places]
            if len(chosen) < _FEW and all(chosen):
                one = AESSIV(self._keys[owner])
                made = [one.encrypt(value, self._associated) for value in chosen]
            else:
                made = SIV(self._keys[owner], self._associated).encrypt(pa.array(chosen, pa.large_binary())).to_pylist()
            for place, value in zip(places, made, strict=True):
                sealed[place] = value
        return pa.array(sealed, pa.large_binary())

    def open(self, values: pa.LargeBinaryArray, at: NDArray[np.int64]) -> tuple[pa.LargeBinaryArray, NDArray[np.bool_]]:
        """What is behind ciphertexts at these positions, and which of them are authentic."""
        if self._owners is None:
            return SIV(self._keys[0], self._associated).decrypt(values)
        sealed: list[bytes] = values.to_pylist()
        opened: list[bytes] = [b""] * len(sealed)
        right = np.zeros(len(sealed), dtype=np.bool_)
        for owner, places in ragged.buckets(self._owners[at]):
            chosen = [sealed[place] for place in places]
            if len(chosen) < _FEW and min(map(len, chosen)) > TAG_BYTES:
                one = AESSIV(self._keys[owner])
                for place, value in zip(places, chosen, strict=True):
                    try:
                        opened[place] = one.decrypt(value, self._associated)
                        right[place] = True
                    except InvalidTag:
                        continue
            else:
                made, right[places] = SIV(self._keys[owner], self._associated).decrypt(pa.array(chosen, pa.large_binary()))
                for place, value in zip(places, made.to_pylist(), strict=True):
                    opened[place] = value
        return pa.array(opened, pa.large_binary()), right


def refuse_others(contents: Contents, genuine: NDArray[np.int64], field: Field, rows: int) -> None:
    """Raise IntegrityError, with the number of rows, unless all values are among the genuine ones."""
    if len(genuine) == len(contents.values):
        return
    wrong = np.ones(len(contents.values), dtype=np.bool_)
    wrong[genuine] = False
    shown = int(pc.sum(pa.array(wrong).take(contents.positions(rows))).as_py())
    raise IntegrityError(
        f"Column '{field.name}': {shown} of {rows} values are no token made for this column (or its namespace) by this workspace, or were changed.",
        hint="Reveal in the workspace, and under the column or namespace, that made them.",
    )


def paired(contents: Contents, subjects: Contents, rows: int) -> tuple[Contents, NDArray[np.int64]]:
    """Each distinct pair of value and subject once: the values, and the position of each one's subject."""
    value_at = contents.positions(rows)
    valid = pc.is_valid(value_at).to_numpy(zero_copy_only=False)
    values = pc.fill_null(value_at, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    owners = pc.fill_null(subjects.positions(rows), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    combined = (values * max(len(subjects.values), 1) + owners)[valid]
    distinct, inverse = np.unique(combined, return_inverse=True)
    at, owner = np.divmod(distinct, max(len(subjects.values), 1))
    positions = np.zeros(rows, dtype=np.int64)
    positions[valid] = inverse
    return Contents(contents.values.take(pa.array(at)), pa.array(positions, mask=~valid)), owner


def outside(field: Field, what: str) -> Refused:
    """The refusal of an operator that needs what only a workspace has."""
    return Refused(
        f"Column '{field.name}': {what} is kept by a workspace, and this masking runs outside of one.",
        by="masking",
        line=f"masking.fields.{field.name}",
        satisfy="Mask inside a workspace, or use 'token' without a subject.",
    )
