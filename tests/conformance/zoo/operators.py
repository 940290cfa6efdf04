"""Broken masking operators, at least one for each check, and the sound ones that they are made from."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import BaseModel, ConfigDict
from tests.conformance.zoo.pen import Pen

from affidavit.errors import IntegrityError, InvalidInput, UsageError
from affidavit.interfaces.masking import Operator, Settings
from affidavit.interfaces.schema import FieldType
from affidavit.testing.kinds.operator.subject import KEY, MemoryVault, OperatorCase, OperatorSubject

PEN = Pen(OperatorSubject, "zoo.scramble")
REVERSIBLE = OperatorCase(name="zoo.scramble", label="reversible")
MARKED = OperatorCase(name="zoo.scramble", label="marked", settings={"mark": "#"})


class ScrambleSettings(Settings):
    """`mark` stands before each result; `digits` says how long a result is."""

    mark: str = "~"
    digits: int = 32


class Scramble(Operator):
    """Replaces each text by a keyed hash behind a mark, with four digits that tell it from a value. This one is sound."""

    name = "zoo.scramble"
    Settings = ScrambleSettings
    spans = True

    def apply(self, column, field, context):
        texts = self.texts(column, field)
        masked = [None if text is None else self.scramble(text, field, context) for text in texts]
        return pa.chunked_array([pa.array(masked, pa.string())])

    def texts(self, column, field):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise UsageError(f"Column '{field.name}' has the Arrow type {column.type}; 'zoo.scramble' needs text.")
        return column.to_pylist()

    def scramble(self, text, field, context):
        return text if self.known(text, context) else self.signed(self.digest(text, field, context), context)

    def digest(self, text, field, context):
        return hashlib.blake2b(text.encode(), key=context.derive("zoo")).hexdigest()[: self.settings.digits]

    def signed(self, body, context):
        return self.settings.mark + body + hashlib.blake2b(body.encode(), key=context.derive("zoo mark"), digest_size=8).hexdigest()

    def known(self, text, context):
        start = len(self.settings.mark)
        return len(text) > 16 + start and text == self.signed(text[start:-16], context)

    def field(self, field):
        return replace(super().field(field), type=FieldType.CATEGORICAL, bounds=None)


class Locker(Scramble):
    """Replaces each text by a token that its key turns back, bound to the column. This one is sound."""

    reversible = True

    def seal(self, context):
        return AESSIV(context.derive("zoo locker", 64))

    def bound(self, field):
        return [field.name.encode()]

    def scramble(self, text, field, context):
        if self.opened(text, field, context) is not None:
            return text
        return self.settings.mark + self.seal(context).encrypt(text.encode() or b"\0", self.bound(field)).hex()

    def opened(self, text, field, context):
        try:
            return self.seal(context).decrypt(bytes.fromhex(text.removeprefix(self.settings.mark)), self.bound(field)).decode()
        except (InvalidTag, ValueError):
            return None

    def reverse(self, column, field, context):
        found = [None if text is None else self.opened(text, field, context) for text in column.to_pylist()]
        if found.count(None) != column.null_count:
            raise IntegrityError(f"Column '{field.name}' holds values that are no tokens of it.")
        return pa.chunked_array([pa.array(found, pa.string())])


class Draw(Scramble):
    """Replaces each text by a random one. This one is sound."""

    idempotent = False

    def scramble(self, text, field, context):
        return os.urandom(16).hex()


class Shift(Operator):
    """Moves dates by a thousand days or, under a workspace's own key, by one, which is another row's date by chance. This one is sound."""

    name = "zoo.scramble"
    idempotent = False

    def apply(self, column, field, context):
        if not pa.types.is_date32(column.type):
            raise UsageError(f"Column '{field.name}' holds no dates.")
        days = dt.timedelta(days=1000 if context.key == KEY else 1)
        try:
            return pa.chunked_array([pa.array([None if date is None else date + days for date in column.to_pylist()], pa.date32())])
        except OverflowError:
            raise InvalidInput(f"Column '{field.name}' holds dates at the end of the calendar.") from None

    def field(self, field):
        return replace(super().field(field), bounds=None, categories=None)


DAYS = OperatorCase(name="zoo.scramble", label="days", values=[dt.date(1987, 5, day) for day in range(17, 21)])

PEN.passes(Scramble)
PEN.passes(Shift, case=DAYS)
PEN.passes(Scramble, case=MARKED)
PEN.passes(Locker, case=REVERSIBLE)
PEN.passes(Draw, case=OperatorCase(name="zoo.scramble", label="random", random=True))
caught_by = PEN.caught_by


@caught_by("operator_is_what_it_registered")
class OtherName(Scramble):
    name = "zoo.another"


@caught_by("a_column_is_masked_or_refused_by_name")
class FallsOverNumbers(Scramble):
    def texts(self, column, field):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type)):
            raise TypeError("bytes or str expected") if pa.types.is_integer(column.type) and len(column) > 4 else UsageError(field.name)
        return super().texts(column, field)


@caught_by("a_column_is_masked_or_refused_by_name")
class RefusesNamelessly(Scramble):
    def texts(self, column, field):
        try:
            return super().texts(column, field)
        except UsageError:
            raise UsageError("This type of column is not served.") from None


@caught_by("a_column_is_masked_or_refused_by_name")
class MasksNothing(Scramble):
    def texts(self, column, field):
        raise UsageError(f"Column '{field.name}' has a type that is not served.")


@caught_by("rows_and_gaps_stay")
class LosesGaps(Scramble):
    def apply(self, column, field, context):
        return super().apply(column, field, context).drop_null() if column.null_count < len(column) - 1 else super().apply(column, field, context)


@caught_by("rows_and_gaps_stay")
class FillsGaps(Scramble):
    def texts(self, column, field):
        return ["missing" if text is None else text for text in super().texts(column, field)]


@caught_by("rows_and_gaps_stay")
class GivesAnArray(Scramble):
    def apply(self, column, field, context):
        return super().apply(column, field, context).combine_chunks()


@caught_by("the_column_given_is_not_changed")
class WipesItsColumn(Scramble):
    """Overwrites the originals where they lie, so that nothing stays behind."""

    def apply(self, column, field, context):
        masked = super().apply(column, field, context)
        for chunk in column.chunks if pa.types.is_string(column.type) and column.num_chunks == 1 and len(column) == 6 else ():
            buffer = chunk.buffers()[2]
            if buffer is not None and buffer.is_mutable and chunk.offset == 0:
                np.frombuffer(buffer, dtype=np.uint8)[:1] = 46
        return masked


@caught_by("layout_makes_no_difference")
class LooksAtOneChunk(Scramble):
    def apply(self, column, field, context):
        if column.num_chunks < 2:
            return super().apply(column, field, context)
        masked = super().apply(pa.chunked_array(column.chunks[:1]), field, context)
        return pa.chunked_array([*masked.chunks, pa.nulls(len(column) - len(masked), pa.string())])


@caught_by("layout_makes_no_difference")
class IgnoresTheOffset(Scramble):
    """Reads the buffers of a slice from their start."""

    def texts(self, column, field):
        texts = super().texts(column, field)
        if column.num_chunks == 1 and pa.types.is_string(column.type) and len(column) > 1 and column.chunk(0).offset:
            chunk = column.chunk(0)
            return pa.Array.from_buffers(chunk.type, len(chunk), chunk.buffers(), offset=0).to_pylist()
        return texts


@caught_by("the_type_does_not_depend_on_the_rows")
class InfersItsType(Scramble):
    def apply(self, column, field, context):
        return pa.chunked_array([pa.array(super().apply(column, field, context).to_pylist())])


@caught_by("a_value_is_masked_alike_wherever_it_stands")
class CountsItsRows(Scramble):
    idempotent = False

    def apply(self, column, field, context):
        masked = super().apply(column, field, context).to_pylist()
        return pa.chunked_array([pa.array([None if text is None else f"{text}-{row}" for row, text in enumerate(masked)], pa.string())])


@caught_by("every_byte_of_the_key_counts")
class UsesHalfTheKey(Scramble):
    def scramble(self, text, field, context):
        return super().scramble(text, field, replace(context, key=context.key[:16]))


@caught_by("claimed_idempotence_is_true")
class HashesHashes(Scramble):
    def known(self, text, context):
        return False


@caught_by("claimed_idempotence_is_true")
class LooksAtTheFirstValue(Scramble):
    """Takes a column for masked where its first value is."""

    def apply(self, column, field, context):
        texts = self.texts(column, field)
        if texts and texts[0] is not None and self.known(texts[0], context):
            return column.cast(pa.string())
        return super().apply(column, field, context)


@caught_by("values_do_not_survive")
class LeavesNumbersOfOneShape(Scramble):
    def scramble(self, text, field, context):
        return text if text.startswith("0034") else super().scramble(text, field, context)


@caught_by("values_do_not_survive")
class LeavesThemInTheDictionary(Scramble):
    def apply(self, column, field, context):
        texts = self.texts(column, field)
        masked = [text and self.scramble(text, field, context) for text in texts]
        known = list(dict.fromkeys(text for text in masked if text is not None))
        codes = pa.array([None if text is None else known.index(text) for text in masked], pa.int32())
        return pa.chunked_array([pa.DictionaryArray.from_arrays(codes, pa.array([*known, *(t for t in texts if t and t not in known)], pa.string()))])


@caught_by("claimed_spans_are_true")
class NeedsATable(Scramble):
    def apply(self, column, field, context):
        if not context.table:
            raise UsageError(f"Column '{field.name}' is of no table.")
        return super().apply(column, field, context)


@caught_by("claimed_spans_are_true")
class LeavesTextsOut(Scramble):
    def apply(self, column, field, context):
        return None if field.type is FieldType.TEXT else super().apply(column, field, context)


@caught_by("the_schema_says_what_was_done")
class SaysNothingOfIt(Scramble):
    def field(self, field):
        return field


@caught_by("the_schema_says_what_was_done")
class CallsItNumbers(Scramble):
    def field(self, field):
        return replace(super().field(field), type=FieldType.NUMERIC)


@caught_by("the_schema_says_what_was_done")
class KeepsCategories(Scramble):
    def field(self, field):
        return replace(super().field(field), categories=field.categories)


class LooseSettings(BaseModel):
    model_config = ConfigDict(extra="ignore")
    mark: str = "~"
    digits: int = 32


@caught_by("an_operator_refuses_settings_that_it_does_not_know")
class AcceptsAnySetting(Scramble):
    Settings = LooseSettings


@caught_by("an_operator_refuses_settings_that_it_does_not_know")
class RepeatsItsSettings(Scramble):
    def __init__(self, **settings):
        try:
            super().__init__(**settings)
        except UsageError:
            raise UsageError(f"These settings do not fit: {settings}.") from None


@caught_by("settings_survive_json", case=MARKED)
class ForgetsItsSettings(Scramble):
    def to_json(self):
        return {}


@caught_by("odd_values_are_masked_or_refused")
class FallsOverEmptyTexts(Scramble):
    def scramble(self, text, field, context):
        assert text[0]
        return super().scramble(text, field, context)


@caught_by("odd_values_are_masked_or_refused")
class DropsWhatIsLong(Scramble):
    def apply(self, column, field, context):
        masked = super().apply(column, field, context)
        return masked.slice(1) if any(text is not None and len(text) > 10_000 for text in column.to_pylist()) else masked


@caught_by("nothing_that_it_says_quotes_a_value")
class QuotesWhatItRefuses(Scramble):
    def scramble(self, text, field, context):
        if not text.isascii():
            raise InvalidInput(f"Column '{field.name}' holds the value '{text}'.")
        return super().scramble(text, field, context)


@caught_by("nothing_that_it_says_quotes_a_value")
class LogsWhatItMasks(Scramble):
    def scramble(self, text, field, context):
        logging.getLogger("zoo").debug("masking %s", text)
        return super().scramble(text, field, context)


@caught_by("nothing_that_it_says_quotes_a_value")
class ChainsWhatItRefuses(Scramble):
    """Says nothing wrong itself, but the traceback does."""

    def scramble(self, text, field, context):
        try:
            text.encode("ascii") if "\x00" in text or text.isascii() else int(text)
        except ValueError as error:
            raise InvalidInput(f"Column '{field.name}' holds a value that is no number.") from error
        return super().scramble(text, field, context)


@caught_by("threads_may_mask_at_once")
class KeepsTheColumnOnItself(Scramble):
    def apply(self, column, field, context):
        self.column = column
        time.sleep(0.002)
        return super().apply(self.column, field, context)


@caught_by("masking_leaves_the_process_alone")
class SeedsEverybody(Scramble):
    def apply(self, column, field, context):
        np.random.seed(0)
        return super().apply(column, field, context)


@caught_by("claimed_reversibility_is_true", case=REVERSIBLE)
class RemembersOnItself(Locker):
    """Only the object that masked can go back."""

    def scramble(self, text, field, context):
        self.__dict__.setdefault("made", []).append(text)
        return super().scramble(text, field, context)

    def reverse(self, column, field, context):
        found = super().reverse(column, field, context)
        return found if "made" in self.__dict__ else pa.chunked_array([pa.array(["?"] * len(column))])


@caught_by("claimed_reversibility_is_true")
class ReversesUnclaimed(Locker):
    reversible = False


@caught_by("only_its_own_values_are_reversed", case=REVERSIBLE)
class BoundToNoKey(Locker):
    """The key is one for all workspaces."""

    def seal(self, context):
        return AESSIV(bytes(range(64)))


@caught_by("only_its_own_values_are_reversed", case=REVERSIBLE)
class OpensWhatWasChanged(Locker):
    """Leaves out what does not open."""

    def reverse(self, column, field, context):
        found = [None if text is None else self.opened(text, field, context) for text in column.to_pylist()]
        return pa.chunked_array([pa.array(found, pa.string())])


@caught_by("what_it_masks_leaves_no_trace")
class ListsWhatItMasked(Scramble):
    """Once it has masked in a workspace, it says in the schema which values there were."""

    def field(self, field):
        seen = self.__dict__.get("seen")
        return replace(super().field(field), categories=tuple(seen) if seen else None)

    def scramble(self, text, field, context):
        made = super().scramble(text, field, context)
        if not isinstance(context.vault, MemoryVault):
            self.__dict__.setdefault("seen", []).extend([made, text])
        return made


@caught_by("what_is_masked_is_masked_once")
class TrustsTheField(Scramble):
    """Knows its values as long as the field does not say that they are masked."""

    def known(self, text, context):
        return self.fresh and super().known(text, context)

    def apply(self, column, field, context):
        self.fresh = field.masked is None
        return super().apply(column, field, context)


@caught_by("only_a_governed_reveal_brings_originals_back", case=REVERSIBLE)
class ReversesWhatIsNotMasked(Locker):
    """Takes a field that says who masked it for one of somebody else's."""

    def reverse(self, column, field, context):
        if field.masked is not None:
            raise IntegrityError(f"Column '{field.name}' was masked by another operator.")
        return super().reverse(column, field, context)
