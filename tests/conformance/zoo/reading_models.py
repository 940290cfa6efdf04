"""Model types that read streams and words, count epochs and have been kept, each sound one beside its broken ones."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict
from tests.conformance.zoo.models import Centroid
from tests.conformance.zoo.pen import Pen

from affidavit import Capabilities, Dataset, Signature, Task
from affidavit.deprecation import deprecated
from affidavit.errors import InvalidInput
from affidavit.interfaces.schema import FieldType
from affidavit.interfaces.training import Progress, Training
from affidavit.testing import ModelCase, keep_artifact
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit.testing.samples import mixed_table, number_table

PEN = Pen(ModelSubject, "zoo.centroid", capabilities=("probabilities",))
caught_by = PEN.caught_by

_FOLDER = tempfile.TemporaryDirectory(prefix="zoo-")
KEPT = ModelCase(
    name="zoo.centroid",
    kept=[keep_artifact(Centroid().fit(make()), make().head(3), Path(_FOLDER.name) / f"{make.__name__}.zip") for make in (number_table, mixed_table)],
)


class Epochs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sharpness: float = 1.0
    epochs: int = 2


# -- streams ---------------------------------------------------------------------------------------------------------------------

STREAMS = ["probabilities", "streaming"]
CLASSES = ("no", "yes")


@PEN.passes(case=KEPT, capabilities=STREAMS)
class ReadsBatches(Centroid):
    """Class means from sums over batches, in two passes that it tells of; gaps count as the column's mean. It reads what `Centroid` wrote."""

    Params = Epochs
    capabilities = Capabilities(probabilities=True, streaming=True)

    def batches(self, data):
        for batch in data.batches():
            yield Dataset(pa.Table.from_batches([batch]), data.schema)

    def fit(self, data, training=None):
        training = training or Training()
        self.signature = None
        target = data.schema.target
        if target is None or target.type is FieldType.NUMERIC:
            raise InvalidInput("Centroids need classes.")
        for epoch in range(self.params.epochs):
            training.report(Progress(epoch, self.params.epochs))
        inputs = data.schema.select(tuple(field.name for field in data.schema.features))
        total, number = 0.0, 0.0
        for part in self.batches(data):
            matrix = self._matrix(part, inputs, np.array(np.nan))[0]
            total, number = total + np.nansum(matrix, axis=0), number + (~np.isnan(matrix)).sum(axis=0)
        self.mean = total / np.maximum(number, 1)
        sums, counts = {}, {}
        for part in self.batches(data):
            matrix = self._matrix(part, inputs, self.mean)[0]
            for name, row in zip(part.to_text(target.name), matrix, strict=True):
                sums[name], counts[name] = sums.get(name, 0.0) + row, counts.get(name, 0) + 1
        classes = tuple(sorted(sums))
        self.centres = np.stack([sums[name] / counts[name] for name in classes])
        self.signature = Signature(inputs, Task.BINARY if len(classes) == 2 else Task.MULTICLASS, target.name, classes)
        return self


@caught_by("streamed_rows_are_read_in_batches", capabilities=STREAMS)
class LoadsTheTable(ReadsBatches):
    def fit(self, data, training=None):
        return super().fit(Dataset(data.table, data.schema), training)


@caught_by("streamed_rows_are_read_in_batches", capabilities=STREAMS)
class LoadsEachColumn(ReadsBatches):
    fit = Centroid.fit


@caught_by("streamed_rows_are_read_in_batches", capabilities=STREAMS)
class LoadsEachColumnOfAView(ReadsBatches):
    def fit(self, data, training=None):
        return Centroid.fit(self, data.select(data.schema.names), training)


@caught_by("streamed_rows_are_read_in_batches", capabilities=STREAMS)
class KeepsTheBatches(ReadsBatches):
    def batches(self, data):
        yield from list(super().batches(data))


@caught_by("streamed_rows_are_read_in_batches", capabilities=STREAMS)
class LearnsFromTheFirstBatch(ReadsBatches):
    def batches(self, data):
        yield next(super().batches(data))


# -- words -----------------------------------------------------------------------------------------------------------------------

TOKENS = ["probabilities", "token_inputs"]


@PEN.passes(capabilities=TOKENS)
class CountsWords(Centroid):
    """How often each of a few words stands in the texts."""

    capabilities = Capabilities(probabilities=True, token_inputs=True)
    words = ("good", "kind", "quick", "fresh", "bad", "rude", "slow", "stale")

    def _matrix(self, data, inputs, mean):
        texts = [field.name for field in inputs if field.type is FieldType.TEXT]
        if not texts:
            raise InvalidInput("There is no text to read.")
        rows = [(text or "").split() for text in data.to_list(texts[0])]
        matrix = np.array([[row.count(word) for word in self.words] for row in rows], dtype=float).reshape(len(rows), len(self.words))
        return matrix, np.zeros(len(self.words))


@caught_by("words_may_be_left_out", capabilities=TOKENS)
class ReadsNoText(Centroid):
    capabilities = Capabilities(probabilities=True, token_inputs=True)


@caught_by("words_may_be_left_out", capabilities=TOKENS)
class RefusesShortTexts(CountsWords):
    def predict(self, data):
        rows = self.fitted.conform(data)
        if any(text is not None and 0 < len(text.split()) < 3 for text in rows.to_list("text")):
            raise InvalidInput("A text is too short.")
        return super().predict(rows)


@caught_by("words_may_be_left_out", capabilities=TOKENS)
class LooksAtTheFirstWord(CountsWords):
    """Also when that word is gone: it has learnt the rows by heart."""

    def fit(self, data, training=None):
        super().fit(data, training)
        self.centres = self.centres * 0 + np.arange(len(self.centres))[:, None]
        return self

    def _matrix(self, data, inputs, mean):
        matrix, mean = super()._matrix(data, inputs, mean)
        return matrix * 0, mean


# -- wrong types -----------------------------------------------------------------------------------------------------------------


@caught_by("predict_answers_every_row")
class AnswersWithAList(Centroid):
    def predict(self, data):
        return list(super().predict(data).values)


@caught_by("what_is_saved_comes_back")
class LoadsItsNumbers(Centroid):
    @classmethod
    def load(cls, files):
        return files.json("centres")


# -- the SDK as it was -----------------------------------------------------------------------------------------------------------


@caught_by("global_state_stays_as_it_was")
class ReplacesTheAudit(Centroid):
    def fit(self, data, training=None):
        import affidavit.pipeline

        affidavit.pipeline.Pipeline.run = lambda self, *a, **k: None
        return super().fit(data, training)


@caught_by("global_state_stays_as_it_was")
class ConfiguresLogging(Centroid):
    def fit(self, data, training=None):
        import logging

        logging.getLogger("affidavit").disabled = not logging.getLogger("affidavit").disabled
        return super().fit(data, training)


# -- epochs ----------------------------------------------------------------------------------------------------------------------


@caught_by("a_long_fit_tells_how_far_it_is")
class TellsNothing(Centroid):
    Params = Epochs

    def fit(self, data, training=None):
        return super().fit(data, Training())


@caught_by("a_long_fit_tells_how_far_it_is")
class CountsPastTheEnd(Centroid):
    Params = Epochs

    def fit(self, data, training=None):
        (training or Training()).report(Progress(self.params.epochs + 1, self.params.epochs))
        return super().fit(data, training)


# -- what goes away --------------------------------------------------------------------------------------------------------------


@deprecated("affidavit.old", since="0.1", removal="9.0", instead="use affidavit.new")
def old():
    """Stands for a function of the SDK that goes away."""


@caught_by("it_uses_nothing_deprecated")
class UsesWhatGoesAway(Centroid):
    def fit(self, data, training=None):
        old()
        return super().fit(data, training)


# -- kept artifacts --------------------------------------------------------------------------------------------------------------


@caught_by("a_kept_artifact_still_loads", case=KEPT)
class RenamesItsFile(Centroid):
    """Reads its new files and none of the old ones."""

    def save(self, files):
        files.json("centroids", {"mean": self.mean.tolist(), "centres": self.centres.tolist()})

    @classmethod
    def load(cls, files):
        model = cls(**files.params)
        written = files.json("centroids")
        model.mean, model.centres = np.array(written["mean"]), np.array(written["centres"])
        model.signature = files.signature
        return model


@caught_by("a_kept_artifact_still_loads", case=KEPT)
class ReadsOldNumbersOtherwise(Centroid):
    """Its default has changed, and its old files did not say what it was."""

    def save(self, files):
        super().save(files)
        files.json("scale", 2.0)

    @classmethod
    def load(cls, files):
        model = super().load(files)
        model.centres = model.centres * (1.0 if "scale.json" in files.names else 0.5)
        return model


@caught_by("a_kept_artifact_still_loads", case=KEPT)
class RenamesAParameter(Centroid):
    class Params(BaseModel):
        model_config = ConfigDict(extra="forbid")
        steepness: float = 1.0

    def scores(self, data):
        matrix, _ = self._matrix(data, self.fitted.inputs, self.mean)
        return -self.params.steepness * ((matrix[:, None] - self.centres[None]) ** 2).sum(axis=2)
