"""Random tokens, whose values a vault keeps."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.masking import Vault as VaultStore
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.encryption import ragged
from affidavit_governance.masking.operators import base32
from affidavit_governance.masking.operators.contents import contents_of, subjects_of, utf8
from affidavit_governance.masking.operators.token import bound_to, outside, paired, refuse_others

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREFIX = b"vlt1_"
PATTERN = re.compile(r"vlt1_[a-z2-7]{32}")
"""What has the shape of a vault's token, in a text."""
_RANDOM, _MARK = 16, 4


class VaultSettings(Settings):
    """`namespace`, in the place of the column's name (or the entity's), makes the tokens of several columns comparable, and interchangeable.
    `subject` names the column that says whose
    a row is; the value is then sealed with the subject's key, and lost with it."""

    namespace: str = ""
    subject: str | None = None


class Vault(Operator):
    """Replaces each value by a random token, 128 bits, in base32 behind ``vlt1_``; the workspace's vault keeps the value, sealed.

    A token tells nothing about its value, not even its length. Bound to the name of the column (or to the entity, where
    the policy's line is one for an entity), or to a `namespace`: within it equal values get equal tokens in every table and text of one
    workspace, so a join on tokens gives what a join on the originals gives. A 32-bit mark, AES of the token under the workspace's key, tells
    what is a token already, which stays.
    """

    name = "vault"
    Settings = VaultSettings
    reversible = True
    spans = True

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        assert isinstance(self.settings, VaultSettings)
        vault = _of(context, field)
        contents = contents_of(column, field, "a token")
        utf8(contents, field, "a token")
        subjects: list[str | None] | None = None
        if self.settings.subject is not None:
            people = subjects_of(column, context.subjects, field, self.name)
            contents, owners = paired(contents, people, len(column))
            names = utf8(people, field, "a subject").to_pylist()
            subjects = [names[owner] for owner in owners]
        _, already = self._opened(contents.values, field, context)
        fresh = np.ones(len(contents.values), dtype=np.bool_)
        fresh[already] = False
        values = contents.values.filter(pa.array(fresh)).to_pylist()
        owned = None if subjects is None else [subjects[i] for i in np.flatnonzero(fresh)]
        made = vault.tokens(values, namespace=bound_to(self.settings.namespace, field), subjects=owned) if values else []
        tokens = np.frombuffer(b"".join(made), dtype=np.uint8).reshape(len(made), _RANDOM)
        marked = np.hstack([tokens, self._marks(tokens, field, context)])
        written = base32.encode(ragged.build(marked.reshape(-1), np.full(len(made), _RANDOM + _MARK)), PREFIX)
        if len(already):
            kept = contents.values.take(pa.array(already)).cast(pa.large_string())
            written = ragged.regroup([written, kept], [np.flatnonzero(fresh), already])
        return contents.spread(written)

    def reverse(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        assert isinstance(self.settings, VaultSettings)
        vault = _of(context, field)
        contents = contents_of(column, field, "a token")
        tokens, at = self._opened(contents.values, field, context)
        refuse_others(contents, at, field, len(column))
        values = vault.values([token.tobytes() for token in tokens], namespace=bound_to(self.settings.namespace, field)) if len(tokens) else []
        opened = pa.array(values, pa.large_binary()).take(pa.array(np.argsort(at)))
        return contents.spread(opened.cast(pa.large_string()))

    def field(self, field: Field) -> Field:
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None, shape=None)

    def _opened(self, values: pa.LargeBinaryArray, field: Field, context: MaskContext) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The tokens among the values, and their positions."""
        decoded, at = base32.decode(values, PREFIX)
        right = ragged.lengths(decoded) == _RANDOM + _MARK
        data = ragged.content(decoded.filter(pa.array(right))).reshape(-1, _RANDOM + _MARK)
        at = at[right]
        genuine = (self._marks(data[:, :_RANDOM], field, context) == data[:, _RANDOM:]).all(axis=1)
        return data[genuine, :_RANDOM], at[genuine]

    def _marks(self, tokens: NDArray[np.uint8], field: Field, context: MaskContext) -> NDArray[np.uint8]:
        assert isinstance(self.settings, VaultSettings)
        key = context.derive(f"vault mark {bound_to(self.settings.namespace, field)}")
        blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(np.ascontiguousarray(tokens).tobytes())
        return np.frombuffer(blocks, dtype=np.uint8).reshape(-1, _RANDOM)[:, :_MARK]


def _of(context: MaskContext, field: Field) -> VaultStore:
    if context.vault is None:
        raise outside(field, "The vault")
    return context.vault
