"""What is done to a column that holds personal data. Each operator is registered under the kind ``operator``."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as Setting

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.schema import Field, FieldType, Role
from affidavit_governance.masking.cells import is_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

REDACTED = "[REDACTED]"
TOKEN_BYTES = 16
"""A pseudonym is 128 bits: among 10⁹ distinct values two share one with a chance below 10⁻²⁰."""
TOKEN_LETTERS = 2 * (TOKEN_BYTES + 4)
_EDGE = re.compile(r"\[(-?[0-9.]+(?:e[+-]?[0-9]+)?), ")
_TOKEN = re.compile(rb"[0-9a-f]+")


class Settings(BaseModel):
    """The settings of an operator that takes none."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Operator(ABC):
    """One way to mask a column.

    Attributes
    ----------
    name
        What policies call it.
    Settings
        A pydantic class of what it may be told.
    scan_after
        Whether what it leaves may still show personal data and is searched cell by cell.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[Settings]] = Settings
    scan_after: ClassVar[bool] = False

    def __init__(self, **settings: Any) -> None:
        try:
            self.settings = self.Settings(**settings)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            known = list(self.Settings.model_fields)
            name = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                hint = f"Settings: {', '.join(known)}." if known else "It takes none."
                raise UsageError(f"Masking operator '{self.name}' has no setting '{name}'.{nearest(name, known)}", hint=hint) from None
            where = f", setting '{name}'" if name else ""
            raise UsageError(f"Masking operator '{self.name}'{where}: {first['msg']}.") from None

    def to_json(self) -> dict[str, Any]:
        """The settings that differ from the defaults, as JSON."""
        return self.settings.model_dump(mode="json", exclude_defaults=True)

    @abstractmethod
    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> pa.ChunkedArray | None:
        """The masked column, or None to leave it out. `column` itself is never changed; missing values stay missing.

        What is masked already must come out as it is, because data pass through masking more than once: when they are loaded, when a
        model is trained on them, when the model answers.

        Raises
        ------
        UsageError
            The operator does not fit the column's type.
        """

    def field(self, field: Field) -> Field:
        """How the schema describes the masked column."""
        return replace(field, masked=self.name, categories=None)


class Redact(Operator):
    """Puts ``[REDACTED]`` in place of every text, and nothing in place of every other value. The Arrow type stays.

    What is left tells nothing, so a feature becomes an identifier and reaches no model.
    """

    name = "redact"

    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> pa.ChunkedArray:
        kind = column.type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not is_text(value):
            return pa.chunked_array([pa.nulls(len(column), kind)], type=kind)
        plain = pa.large_string() if pa.types.is_large_string(value) else pa.string()
        masked = pa.array([REDACTED], type=plain).take(pa.array(np.zeros(len(column), dtype=np.int8), mask=_missing(column)))
        return pa.chunked_array([masked.cast(kind)], type=kind)

    def field(self, field: Field) -> Field:
        role = Role.IDENTIFIER if field.role is Role.FEATURE else field.role
        return replace(super().field(field), role=role, bounds=None)


class PseudonymSettings(Settings):
    """`namespace` keeps apart the pseudonyms of equal values in columns that must not be linked."""

    namespace: str = ""


class Pseudonym(Operator):
    """Replaces each value by a keyed pseudonym: BLAKE2b (RFC 7693) with the workspace's key, 128 bits in hex, and 32 bits that mark it.

    Equal values get equal pseudonyms in every column, table and file under one key, whatever their Arrow type (5, 5.0 and "5" are equal),
    so a join on pseudonyms gives what a join on the originals gives. Without the key a pseudonym cannot be tested against a guess.
    With the key its mark tells it from a value, so what is a pseudonym already stays as it is.
    """

    name = "pseudonym"
    Settings = PseudonymSettings

    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> pa.ChunkedArray:
        if pa.types.is_nested(column.type) or isinstance(column.type, pa.ExtensionType):
            raise UsageError(f"Column '{field.name}' holds nested values, which have no pseudonym.", hint="Use redact or drop.")
        chunks = [self._chunk(chunk, key) for chunk in column.chunks]
        return pa.chunked_array(chunks, type=pa.string())

    def _chunk(self, array: pa.Array, key: bytes) -> pa.Array:
        plain = array.cast(pa.large_binary()) if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type) else array
        encoded = plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode()
        contents = [_canonical(value) for value in encoded.dictionary.to_pylist()]
        tokens = self._tokens([content or b"" for content in contents], key)
        for position in _marked(contents, key):
            tokens[position] = contents[position]
        values = pa.array([None if content is None else token for content, token in zip(contents, tokens, strict=True)], pa.binary())
        return values.cast(pa.string()).take(encoded.indices)

    def _tokens(self, contents: list[bytes], key: bytes) -> list[bytes | None]:
        assert isinstance(self.settings, PseudonymSettings)
        namespace = self.settings.namespace.encode()
        base = hashlib.blake2b(len(namespace).to_bytes(4, "big") + namespace, digest_size=TOKEN_BYTES, key=key, person=b"affidavit-pn-1")
        digests = bytearray()
        for content in contents:
            state = base.copy()
            state.update(content)
            digests += state.digest()
        words = np.frombuffer(digests, dtype="<u4").reshape(-1, TOKEN_BYTES // 4)
        text = np.hstack([words, _marks(words, key)[:, None]]).astype("<u4").tobytes().hex().encode()
        return [text[at : at + TOKEN_LETTERS] for at in range(0, len(text), TOKEN_LETTERS)]

    def field(self, field: Field) -> Field:
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None, shape=None)


def _marks(words: NDArray[np.uint32], key: bytes) -> NDArray[np.uint32]:
    """The mark of each pseudonym: a keyed multiply-shift hash (Dietzfelbinger 1996) of its four words. It hides nothing and proves nothing
    to anybody; a value that is no pseudonym has the right one with a chance of 2⁻³²."""
    secret = np.frombuffer(hashlib.blake2b(digest_size=40, key=key, person=b"affidavit-pm-1").digest(), dtype="<u8")
    with np.errstate(over="ignore"):
        mixed = (words.astype(np.uint64) * secret[:4]).sum(axis=1, dtype=np.uint64) + secret[4]
    marks: NDArray[np.uint32] = (mixed >> np.uint64(32)).astype(np.uint32)
    return marks


def _marked(contents: list[bytes | None], key: bytes) -> list[int]:
    """Positions of values that are pseudonyms under this key."""
    shaped = [i for i, content in enumerate(contents) if content is not None and len(content) == TOKEN_LETTERS and _TOKEN.fullmatch(content)]
    if not shaped:
        return []
    words = np.frombuffer(bytes.fromhex(b"".join(contents[i] or b"" for i in shaped).decode()), dtype="<u4").reshape(-1, TOKEN_BYTES // 4 + 1)
    right = _marks(words[:, :-1], key) == words[:, -1]
    return [i for i, ok in zip(shaped, right, strict=True) if ok]


def _canonical(value: Any) -> bytes | None:
    """One byte string for values that compare equal; None for a missing one."""
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bytes):
        return value
    if isinstance(value, (float, Decimal)) and value == value // 1:
        value = int(value)
    if isinstance(value, Decimal):
        value = f"{value.normalize():f}"
    return str(value).encode("utf-8", "surrogatepass")


class GeneraliseSettings(Settings):
    """One of `width` (numbers), `unit` (dates) and `prefix` (text).

    `width` bins numbers from `origin` on; the bin is shown as its lower edge, its midpoint, or a label such as ``[30, 35)``.
    `unit` cuts dates and times down; `prefix` keeps the first characters of a text.
    """

    width: Annotated[float, Setting(gt=0, allow_inf_nan=False)] | None = None
    origin: Annotated[float, Setting(allow_inf_nan=False)] = 0.0
    show: Literal["lower", "midpoint", "label"] = "lower"
    unit: Literal["year", "quarter", "month", "week", "day", "hour"] | None = None
    prefix: Annotated[int, Setting(ge=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> GeneraliseSettings:
        if sum(value is not None for value in (self.width, self.unit, self.prefix)) != 1:
            raise ValueError("give exactly one of width (numbers), unit (dates) and prefix (text)")
        return self


class Generalise(Operator):
    """Makes values coarser: numbers to bins, dates to their year or month, text to its first characters.

    A number is shown by default as the lower edge of its bin, so that a numeric feature stays one and whole numbers stay whole.
    Generalising twice is the same as once.
    """

    name = "generalise"
    Settings = GeneraliseSettings
    scan_after = True

    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> pa.ChunkedArray:
        settings = self.settings
        assert isinstance(settings, GeneraliseSettings)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        plain = column.cast(kind) if pa.types.is_dictionary(column.type) else column
        number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if settings.width is not None and number:
            return _bins(plain, settings)
        if settings.show == "label" and is_text(kind) and _are_labels(plain, settings):
            return plain
        if settings.unit is not None and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            return pc.floor_temporal(plain, unit=settings.unit).cast(kind)
        if settings.prefix is not None and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            longer = pc.greater(pc.utf8_length(plain), settings.prefix)
            start = pc.utf8_slice_codeunits(plain, 0, settings.prefix)
            cut = pc.binary_join_element_wise(start, pa.scalar("*", kind), pa.scalar("", kind))
            return pc.if_else(longer, cut, plain).cast(column.type)
        wants = "numbers" if settings.width is not None else "dates or times" if settings.unit is not None else "text"
        raise UsageError(
            f"Column '{field.name}' has the Arrow type {column.type}; these settings of 'generalise' need {wants}.",
            hint="Use width for numbers, unit for dates, prefix for text.",
        )

    def field(self, field: Field) -> Field:
        settings = self.settings
        assert isinstance(settings, GeneraliseSettings)
        changed = replace(super().field(field), bounds=None)
        if settings.width is None:
            return changed
        if settings.show == "label":
            return replace(changed, type=FieldType.CATEGORICAL)
        if field.bounds is None:
            return changed
        shown = _shown(np.array(field.bounds), settings)
        return replace(changed, bounds=(float(shown[0]), float(shown[1])))


def _bins(column: pa.ChunkedArray, settings: GeneraliseSettings) -> pa.ChunkedArray:
    missing = _missing(column)
    filled = pc.fill_null(column.cast(pa.float64(), safe=False), 0.0).to_numpy()
    values = np.where(missing | ~np.isfinite(filled), 0.0, filled)
    lower = _lower(values, settings)
    if settings.show == "label":
        width = settings.width or 1.0
        labels = [None if m else _label(low, width) for low, m in zip(lower, missing, strict=True)]
        return pa.chunked_array([pa.array(labels, pa.string())])
    shown = pa.array(_shown(values, settings), mask=missing)
    steps = (settings.width or 0.0, settings.origin, (settings.width or 0.0) / 2 if settings.show == "midpoint" else 0.0)
    # The type follows from settings and column type, never from the values, so that all batches of a stream agree.
    if pa.types.is_integer(column.type) and all(float(step).is_integer() for step in steps):
        shown = shown.cast(pa.int64())
    elif pa.types.is_floating(column.type):
        shown = shown.cast(column.type, safe=False)
    return pa.chunked_array([shown])


def _label(lower: float, width: float) -> str:
    return f"[{lower:.12g}, {lower + width:.12g})"


def _are_labels(column: pa.ChunkedArray, settings: GeneraliseSettings) -> bool:
    """Whether every text is the label of one of these bins, so that the column is generalised already."""
    for value in pc.unique(column).to_pylist():
        if value is None:
            continue
        edge = _EDGE.match(value)
        if not edge or _label(float(_lower(np.array([float(edge.group(1))]), settings)[0]), settings.width or 1.0) != value:
            return False
    return True


def _missing(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Where values are null or not a number."""
    parts = [pc.is_null(chunk, nan_is_null=True).to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def _lower(values: NDArray[np.float64], settings: GeneraliseSettings) -> NDArray[np.float64]:
    width = settings.width or 1.0
    # The margin absorbs rounding (0.3 / 0.1 is 2.999…), so that a bin's edge stays in its bin when it is generalised again.
    bins: NDArray[np.float64] = np.floor((values - settings.origin) / width + 1e-9) * width + settings.origin
    return bins


def _shown(values: NDArray[np.float64], settings: GeneraliseSettings) -> NDArray[np.float64]:
    lower = _lower(values, settings)
    return lower + (settings.width or 0.0) / 2 if settings.show == "midpoint" else lower


class Keep(Operator):
    """Leaves the column as it is, unsearched: the policy's explicit word."""

    name = "keep"

    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> pa.ChunkedArray:
        return column

    def field(self, field: Field) -> Field:
        return field


class Drop(Operator):
    """Leaves the column out."""

    name = "drop"

    def apply(self, column: pa.ChunkedArray, field: Field, key: bytes) -> None:
        if field.role is Role.TARGET:
            raise UsageError(f"Column '{field.name}' is the target and cannot be dropped by masking.", hint="Use keep, redact or generalise.")


BUNDLED: Mapping[str, type[Operator]] = {cls.name: cls for cls in (Redact, Pseudonym, Generalise, Keep, Drop)}
"""The operators that masking knows without a registry."""


def make_operator(name: str, settings: Mapping[str, Any], *, where: str, known: Mapping[str, type[Operator]] = BUNDLED) -> Operator:
    """The operator that a policy line asks for.

    Raises
    ------
    UsageError
        There is no such operator, or it has no such setting; `where` names the policy line.
    """
    if name not in known:
        raise UsageError(f"{where}: there is no masking operator '{name}'.{nearest(name, known)}", hint=f"Operators: {', '.join(sorted(known))}.")
    try:
        return known[name](**settings)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None
    except TypeError:
        raise InvalidInput(f"{where}: the settings of '{name}' cannot be read.", hint="Write them as key: value.") from None
