"""Checks of what a masking operator does with settings and with values that are rare and come, and of what it says about them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.interfaces.schema import Field, FieldType
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.operator.api import same
from affidavit.testing.kinds.operator.subject import COLUMN, OperatorSubject, values_of
from affidavit.testing.report import Tier

PLANTED = "planted value 7301"
"""What settings are tried with, to see whether an error repeats it."""

ODD_VALUES: dict[str, tuple[list[Any], pa.DataType]] = {
    "empty texts": (["", " "], pa.string()),
    "emoji": (["👩‍👩‍👧 8412365", "🇩🇪🇨🇳"], pa.string()),
    "Chinese": (["王小明 13812345678", "李雷"], pa.string()),
    "full-width digits": (["\uff14\uff11\uff12\uff13\uff14\uff15\uff16\uff17"], pa.string()),
    "very long texts": (["4123 " * 20_000], pa.string()),
    "texts with NUL": (["4123\x00456789", "\x00\x00\x00"], pa.string()),
    "texts of one word": (["Wagadugu"], pa.string()),
    "bytes that are no UTF-8": ([b"\xff\xfe4123456"], pa.binary()),
    "the largest whole numbers": ([-(2**63), 2**63 - 1, 0, -1], pa.int64()),
    "infinite numbers": ([float("inf"), float("-inf"), float("nan"), -0.0, 1e308, 5e-324], pa.float64()),
    "dates before 1970": ([-719_162, -1, 2_932_896], pa.date32()),
    "times before 1970": ([-62_135_596_800_000_000, -1, 253_402_300_799_999_999], pa.timestamp("us")),
    "lists": ([["4123456789"], None], pa.list_(pa.string())),
    "no values": ([None, None, None], pa.null()),
}
"""By what they are: values that are rare and come, and their Arrow type."""


@check("operator", Tier.API)
def an_operator_refuses_settings_that_it_does_not_know(subject: OperatorSubject) -> None:
    """An unknown setting, or a value that does not fit one, is UsageError, which does not repeat the value."""
    wrong: list[dict[str, Any]] = [{"surely_no_such_setting": PLANTED}]
    wrong += [{known: value} for known in subject.value.Settings.model_fields for value in (PLANTED, [PLANTED], {PLANTED: 1})]
    for number, settings in enumerate(wrong):
        try:
            subject.value(**{**subject.case.settings, **settings})
        except UsageError as error:
            if PLANTED in _told(error):
                raise CheckFailed(f"the refusal of the setting '{next(iter(settings))}' repeats its value: name the setting alone.") from None
        except Exception as error:
            raise CheckFailed(f"the setting '{next(iter(settings))}' raised {type(error).__name__}: give the class Settings.") from error
        else:
            if number == 0:
                raise CheckFailed("an unknown setting was accepted: make Settings a subclass of affidavit.interfaces.masking.Settings.")


@check("operator", Tier.API)
def settings_survive_json(subject: OperatorSubject) -> None:
    """An operator made from what `to_json` says masks alike: plans and evidence hold the settings in that form."""
    written = json.loads(json.dumps(subject.make().to_json()))
    again = subject.value(**written)
    if again.to_json() != written:
        raise CheckFailed("to_json of an operator that was made from to_json says something else.")
    for name in subject.served:
        field = subject.field(name)
        masked = subject.mask(subject.column(name), field)
        try:
            found = subject.mask(subject.column(name), field, operator=again)
        except AffidavitError as error:
            raise CheckFailed(f"an operator made from to_json raised {type(error).__name__}: to_json must say every setting.") from error
        same(subject, masked, found, "an operator made from to_json: it")


@check("operator", Tier.API)
def odd_values_are_masked_or_refused(subject: OperatorSubject) -> None:
    """Empty, very long, foreign, infinite and early values raise nothing but UsageError or InvalidInput, and lose no row."""
    for what, column, field in _odd_columns():
        try:
            masked = subject.mask(column, field)
        except (UsageError, InvalidInput):
            continue
        except Exception as error:
            raise CheckFailed(f"{what} raised {type(error).__name__}: mask them, or raise InvalidInput.") from error
        if masked is not None and len(masked) != len(column):
            raise CheckFailed(f"of {len(column)} rows of {what} {len(masked)} came out.")


@check("operator", Tier.API)
def nothing_that_it_says_quotes_a_value(subject: OperatorSubject) -> None:
    """Neither errors nor warnings, logs and prints repeat a value."""
    columns = [(name, subject.column(name), subject.field(name)) for name in subject.columns]
    for what, column, field in [*columns, *_odd_columns()]:
        values = [str(value) for value in values_of(column) or [] if value is not None and len(str(value)) >= 6]
        with _heard() as heard:
            try:
                subject.mask(column, field)
            except AffidavitError as error:
                heard.append(_told(error))
            except Exception:  # which another check speaks of
                continue
        said = "\n".join(heard)
        if any(value in said for value in values):
            raise CheckFailed(f"an error, a warning, a log or a print quotes a value of {what}: name the column and count the values.")


def _odd_columns() -> list[tuple[str, pa.ChunkedArray, Field]]:
    """What they hold, columns of it in buffers of their own, and their fields."""
    found = []
    for what, (values, kind) in ODD_VALUES.items():
        number, time = pa.types.is_integer(kind) or pa.types.is_floating(kind), pa.types.is_temporal(kind)
        field = Field(COLUMN, FieldType.NUMERIC if number else FieldType.DATETIME if time else FieldType.TEXT)
        found.append((what, pa.chunked_array([pa.array(values, kind)]), field))
    return found


def _told(error: BaseException) -> str:
    """What a traceback would show of an error and those behind it."""
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{error} {getattr(error, 'hint', '')}" + (f" {_told(behind)}" if behind is not None else "")


class _Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.NOTSET)
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """Collects what is printed, logged and warned of meanwhile."""
    heard: list[str] = []
    root, listener, printed = logging.getLogger(), _Listener(heard), io.StringIO()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            warnings.simplefilter("always")
            yield heard
    finally:
        root.removeHandler(listener)
        root.setLevel(level)
    heard += [printed.getvalue(), *(str(each.message) for each in warned)]
