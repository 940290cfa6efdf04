"""Fields and schemas: what a column is, apart from its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from enum import StrEnum
from typing import Any

from affidavit.errors import InvalidInput, UsageError, nearest


class FieldType(StrEnum):
    """What the values of a field are."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TENSOR = "tensor"


class Role(StrEnum):
    """What a field is for. Only features reach a model's inputs."""

    FEATURE = "feature"
    TARGET = "target"
    IDENTIFIER = "identifier"
    PROTECTED = "protected"
    WEIGHT = "weight"


@dataclass(frozen=True, slots=True)
class Field:
    """One column.

    Attributes
    ----------
    entity
        The kind of personal data that the field holds (Presidio's entity names), if any.
    masked
        The operator that masked it (``"redact"``, ``"pseudonym"``, ``"generalise"``, ``"spans"`` for findings inside free text), if any.
    masked_in
        The table that its tokens are bound to, where a policy line of the column's own made them.
    shape
        The shape of one value, for tensors.
    bounds, categories
        The range or the values that the field may take, where that is public knowledge rather than read from the data.
    """

    name: str
    type: FieldType
    role: Role = Role.FEATURE
    entity: str | None = None
    masked: str | None = None
    shape: tuple[int, ...] | None = None
    bounds: tuple[float, float] | None = None
    categories: tuple[str, ...] | None = None
    masked_in: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The field as a JSON object without its empty members."""
        values = {
            "name": self.name,
            "type": str(self.type),
            "role": str(self.role),
            "entity": self.entity,
            "masked": self.masked,
            "shape": None if self.shape is None else list(self.shape),
            "bounds": None if self.bounds is None else list(self.bounds),
            "categories": None if self.categories is None else list(self.categories),
            "masked_in": self.masked_in,
        }
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Field:
        """Read what `to_json` wrote. Raises InvalidInput where it is not a field."""
        known = {"name", "type", "role", "entity", "masked", "shape", "bounds", "categories", "masked_in"}
        for key in value:
            if key not in known:
                raise InvalidInput(f"Field '{value.get('name', '?')}' has an unknown key '{key}'.{nearest(key, known)}")
        try:
            return cls(
                name=str(value["name"]),
                type=FieldType(value["type"]),
                role=Role(value.get("role", "feature")),
                entity=value.get("entity"),
                masked=value.get("masked"),
                shape=None if value.get("shape") is None else tuple(int(n) for n in value["shape"]),
                bounds=None if value.get("bounds") is None else (float(value["bounds"][0]), float(value["bounds"][1])),
                categories=None if value.get("categories") is None else tuple(str(c) for c in value["categories"]),
                masked_in=value.get("masked_in"),
            )
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise InvalidInput(f"Field '{value.get('name', '?')}' cannot be read: {type(error).__name__} in its description.") from error


def shortlist(names: Iterable[str], limit: int = 30) -> str:
    """The first names, for a hint: a picture's 784 columns would bury the message."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


@dataclass(frozen=True, slots=True)
class Schema:
    """The fields of a data set, in order. Names are unique."""

    fields: tuple[Field, ...]
    names: tuple[str, ...] = attribute(init=False, repr=False, compare=False)
    """Column names in order."""
    layout: tuple[tuple[str, FieldType, tuple[int, ...] | None], ...] = attribute(init=False, repr=False, compare=False)
    """Name, type and shape of each field: what the values look like, apart from what they are for."""
    rows_type: Any = attribute(init=False, repr=False, compare=False)
    """The Arrow type of a row, kept here by `affidavit.interfaces.columns` for prediction batches."""
    _index: dict[str, int] = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "rows_type", None)
        put(self, "names", tuple(field.name for field in self.fields))
        put(self, "layout", tuple((field.name, field.type, field.shape) for field in self.fields))
        put(self, "_index", {name: position for position, name in enumerate(self.names)})
        if len(self._index) < len(self.names):
            repeated = next(name for position, name in enumerate(self.names) if self._index[name] != position)
            raise InvalidInput(f"Column '{repeated}' stands twice in the data.", hint="Rename one of the two.")
        if sum(field.role is Role.TARGET for field in self.fields) > 1:
            raise InvalidInput("More than one field has the role 'target'.", hint="Give the role to one field.")

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def __getitem__(self, name: str) -> Field:
        return self.fields[self.position(name)]

    def position(self, name: str) -> int:
        """The place of column `name`. Raises UsageError, with the nearest name, where there is none."""
        if name not in self._index:
            raise UsageError(f"There is no column '{name}'.{nearest(name, self.names)}", hint=f"Columns: {shortlist(self.names)}.")
        return self._index[name]

    def with_role(self, role: Role) -> tuple[Field, ...]:
        """The fields that have `role`."""
        return tuple(field for field in self.fields if field.role is role)

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that a model may read."""
        return self.with_role(Role.FEATURE)

    @property
    def target(self) -> Field | None:
        """The field to predict, if one is declared."""
        found = self.with_role(Role.TARGET)
        return found[0] if found else None

    def remember_rows_type(self, value: Any) -> None:
        """Keep what is costly to make again; it follows from the fields, so the schema does not change by it."""
        object.__setattr__(self, "rows_type", value)

    def change(self, name: str, **changes: Any) -> Schema:
        """A schema in which field `name` has other attributes."""
        position = self.position(name)
        return Schema((*self.fields[:position], replace(self.fields[position], **changes), *self.fields[position + 1 :]))

    def select(self, names: tuple[str, ...]) -> Schema:
        """The named fields, in the order given."""
        return Schema(tuple(self[name] for name in names))

    def to_json(self) -> list[dict[str, Any]]:
        """The fields as JSON objects."""
        return [field.to_json() for field in self.fields]

    @classmethod
    def from_json(cls, value: Any) -> Schema:
        """Read what `to_json` wrote."""
        if not isinstance(value, list):
            raise InvalidInput("A schema must be a list of fields.")
        return cls(tuple(Field.from_json(item) for item in value))
