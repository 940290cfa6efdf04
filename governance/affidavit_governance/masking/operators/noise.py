"""Random noise on numbers."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import Field as Setting
from pydantic import model_validator

from affidavit.errors import UsageError
from affidavit.interfaces.masking import MaskContext, Operator, Settings
from affidavit.interfaces.schema import Field
from affidavit_governance.masking.operators.arrays import is_number, missing, typed
from affidavit_governance.masking.operators.contents import subjects_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WHOLE = 2.0**53
"""Up to here every whole number is a float of its own."""


class NoiseSettings(Settings):
    """`scale` is Laplace's b or the Gaussian's σ, in the column's unit. `low` and `high` clip the result. With a `subject` column, equal
    values of two subjects get different noise."""

    scale: Annotated[float, Setting(gt=0, allow_inf_nan=False)]
    distribution: Literal["laplace", "gaussian"] = "laplace"
    low: Annotated[float, Setting(allow_inf_nan=False)] | None = None
    high: Annotated[float, Setting(allow_inf_nan=False)] | None = None
    subject: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> NoiseSettings:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low is below high")
        return self


class Noise(Operator):
    """Adds Laplace or Gaussian noise to numbers. The type stays: whole numbers get whole noise.

    The noise follows from the workspace's key, the column's name, the value and, where one is named, the subject: masking the same data
    again gives the same result, whatever the order of the rows, so nobody averages it away. This limits disclosure and is no
    differential privacy: equal values get equal noise, and there is no budget.
    """

    name = "noise"
    Settings = NoiseSettings
    idempotent = False

    def apply(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> pa.ChunkedArray:
        kind = column.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_null(value):
            return column  # a column without a single value
        if not is_number(value):
            raise UsageError(f"Column '{field.name}' has the Arrow type {kind}; 'noise' needs numbers.", hint="Use another operator.")
        absent = missing(column)
        plain = column.cast(value).combine_chunks()
        plain = plain.combine_chunks() if isinstance(plain, pa.ChunkedArray) else plain
        numbers = np.where(absent, 0.0, pc.fill_null(plain.cast(pa.float64(), safe=False), 0.0).to_numpy(zero_copy_only=False))
        if not pa.types.is_floating(value) and (np.abs(numbers) > _WHOLE).any():
            raise UsageError(f"Column '{field.name}' holds whole numbers beyond 2⁵³, which noise would round.", hint="Use another operator.")
        noisy = numbers + self._noise(numbers, self._owners(column, field, context), field, context)
        if pa.types.is_integer(value):
            noisy = np.rint(noisy)
        low, high = self._limits(field, value)
        noisy = np.where(absent, 0.0, np.where(np.isnan(noisy), noisy, np.clip(noisy, low, high)))
        return typed(pa.array(noisy, mask=absent).cast(value, safe=False), kind)

    def field(self, field: Field) -> Field:
        assert isinstance(self.settings, NoiseSettings)
        low, high = self.settings.low, self.settings.high
        if field.bounds is not None:
            low, high = field.bounds[0] if low is None else low, field.bounds[1] if high is None else high
        return replace(super().field(field), bounds=None if low is None or high is None else (low, high))

    def _limits(self, field: Field, value: pa.DataType) -> tuple[float, float]:
        """From the settings, else from the public bounds of the field; for whole numbers also the ends of their type."""
        assert isinstance(self.settings, NoiseSettings)
        low, high = self.settings.low, self.settings.high
        public = field.bounds or (-np.inf, np.inf)
        low, high = public[0] if low is None else low, public[1] if high is None else high
        if pa.types.is_integer(value):
            ends = np.iinfo(value.to_pandas_dtype())
            return max(np.ceil(low), float(ends.min), -_WHOLE), min(np.floor(high), float(ends.max), _WHOLE)
        if pa.types.is_decimal(value):
            most = float(10 ** (value.precision - value.scale)) * (1 - 1e-9)
            return max(low, -most), min(high, most)
        return low, high

    def _owners(self, column: pa.ChunkedArray, field: Field, context: MaskContext) -> NDArray[np.uint64]:
        assert isinstance(self.settings, NoiseSettings)
        if self.settings.subject is None:
            return np.zeros(len(column), dtype=np.uint64)
        subjects = subjects_of(column, context.subjects, field, self.name)
        keyed = np.array([_word(subject, context.key) for subject in subjects.values.to_pylist()] or [0], dtype=np.uint64)
        owners: NDArray[np.uint64] = keyed[pc.fill_null(subjects.positions(len(column)), 0).to_numpy(zero_copy_only=False).astype(np.int64)]
        return owners

    def _noise(self, numbers: NDArray[np.float64], owners: NDArray[np.uint64], field: Field, context: MaskContext) -> NDArray[np.float64]:
        assert isinstance(self.settings, NoiseSettings)
        finite = np.where(np.isfinite(numbers), numbers, 0.0) + 0.0  # -0.0 becomes 0.0, which it equals
        blocks = np.empty((len(numbers), 2), dtype=np.uint64)
        blocks[:, 0], blocks[:, 1] = finite.view(np.uint64), owners
        # AES of value and subject is a pseudorandom function of them (one block, so no mode is needed).
        cipher = Cipher(algorithms.AES(context.derive(f"noise {field.name}")), modes.ECB()).encryptor()
        words = np.frombuffer(cipher.update(blocks.tobytes()), dtype="<u8").reshape(-1, 2)
        first, second = ((words >> np.uint64(11)).astype(np.float64) + 0.5).T * 2.0**-53  # strictly between 0 and 1
        if self.settings.distribution == "gaussian":
            unit = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)  # Box and Muller 1958
        else:
            unit = -np.log(first) * np.where(second < 0.5, -1.0, 1.0)
        noise: NDArray[np.float64] = self.settings.scale * unit
        return noise


def _word(subject: bytes, key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(subject, digest_size=8, key=key, person=b"affidavit-ns-1").digest(), "little")
