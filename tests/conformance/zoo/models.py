"""Broken model types, at least one for each check, and the sound one that they are made from."""

from __future__ import annotations

import os
import pickle
import threading
import time

import numpy as np
from pydantic import BaseModel, ConfigDict
from tests.conformance.zoo.pen import Pen

from affidavit import Capabilities, Model, Predictions, Signature, Task
from affidavit.errors import InvalidInput
from affidavit.interfaces.infer import class_labels
from affidavit.interfaces.model import EncodedView, TorchView, inside_call
from affidavit.interfaces.schema import FieldType
from affidavit.interfaces.training import Progress, Training
from affidavit.testing.kinds.model.subject import ModelSubject

PEN = Pen(ModelSubject, "zoo.centroid", capabilities=("probabilities",))


class Params(BaseModel):
    """Takes one parameter."""

    model_config = ConfigDict(extra="forbid")
    sharpness: float = 1.0


class Centroid(Model):
    """Nearest class mean over the numeric columns; gaps count as the column's mean. This one is sound."""

    type = "zoo.centroid"
    Params = Params
    capabilities = Capabilities(probabilities=True)

    def fit(self, data, training=None):
        training = training or Training()
        self.signature = None
        target = data.schema.target
        if target is None or target.type is FieldType.NUMERIC:
            raise InvalidInput("Centroids need classes.")
        labels, classes = class_labels(data)
        inputs = data.schema.select(tuple(field.name for field in data.schema.features))
        matrix, self.mean = self._matrix(data, inputs, None)
        training.report(Progress(0, 1))
        self.centres = np.stack([matrix[np.asarray(labels) == name].mean(axis=0) for name in classes])
        self.signature = Signature(inputs, Task.BINARY if len(classes) == 2 else Task.MULTICLASS, target.name, classes)
        return self

    def _matrix(self, data, inputs, mean):
        columns = [data.to_numpy(field.name) for field in inputs if field.type is FieldType.NUMERIC]
        matrix = np.stack(columns, axis=1) if columns else np.zeros((len(data), 1))
        mean = np.nan_to_num(np.nanmean(matrix, axis=0)) if mean is None else mean
        return np.where(np.isnan(matrix), mean, matrix), mean

    def scores(self, data):
        matrix, _ = self._matrix(data, self.fitted.inputs, self.mean)
        return -self.params.sharpness * ((matrix[:, None] - self.centres[None]) ** 2).sum(axis=2)

    def predict(self, data):
        scores = self.scores(self.fitted.conform(data))
        powers = np.exp(scores - scores.max(axis=1, keepdims=True)) if len(scores) else scores
        table = powers / powers.sum(axis=1, keepdims=True) if len(scores) else scores
        names = np.array(self.fitted.classes, dtype=object)
        return Predictions(names[table.argmax(axis=1)] if len(table) else names[:0], self.fitted.classes, table)

    def save(self, files):
        files.json("centres", {"mean": self.mean.tolist(), "centres": self.centres.tolist()})

    @classmethod
    def load(cls, files):
        model = cls(**files.params)
        written = files.json("centres")
        model.mean, model.centres = np.array(written["mean"]), np.array(written["centres"])
        model.signature = files.signature
        return model


PEN.passes(Centroid)
caught_by = PEN.caught_by


@caught_by("model_is_what_it_registered")
class OtherName(Centroid):
    type = "zoo.another"


@caught_by("model_is_what_it_registered", capabilities=[])
class RegistersLess(Centroid):
    """Its class claims what its registration does not."""


@caught_by("fit_learns_and_sets_the_signature")
class ReturnsNothing(Centroid):
    def fit(self, data, training=None):
        super().fit(data, training)


@caught_by("predict_answers_every_row")
class NotNormalised(Centroid):
    def predict(self, data):
        found = super().predict(data)
        return Predictions(found.values, found.classes, found.probabilities * 0.5)


@caught_by("claimed_probabilities_are_given")
class LabelsOnly(Centroid):
    def predict(self, data):
        found = super().predict(data)
        return Predictions(found.values, found.classes)


@caught_by("an_unfitted_model_says_so")
class AnswersUnfitted(Centroid):
    def predict(self, data):
        if self.signature is None:
            return Predictions(np.array(["yes"] * len(data)), ("yes",), np.ones((len(data), 1)))
        return super().predict(data)


class LooseParams(BaseModel):
    model_config = ConfigDict(extra="ignore")
    sharpness: float = 1.0


@caught_by("an_unknown_parameter_is_refused")
class AcceptsAnything(Centroid):
    Params = LooseParams


@caught_by("input_is_not_changed")
class WritesIntoItsRows(Centroid):
    def predict(self, data):
        found = super().predict(data)
        for field in data.schema.features:
            if field.type is FieldType.NUMERIC:
                for chunk in data.table.column(field.name).chunks:
                    if chunk.buffers()[1].is_mutable:
                        np.frombuffer(chunk.buffers()[1], dtype=np.float64)[:1] += 1
        return found


@caught_by("the_same_seed_gives_the_same_model")
class SeededByTheClock(Centroid):
    def fit(self, data, training=None):
        super().fit(data, training)
        self.centres = self.centres + np.random.default_rng(time.perf_counter_ns()).normal(size=self.centres.shape)
        return self


@caught_by("a_row_alone_is_answered_as_in_a_batch")
class LooksAtNeighbours(Centroid):
    def scores(self, data):
        scores = super().scores(data)
        return scores * (1 + 0.01 * len(scores))


@caught_by("an_empty_batch_gives_an_empty_answer")
class NeedsARow(Centroid):
    def predict(self, data):
        if not len(data):
            raise InvalidInput("No rows.")
        return super().predict(data)


@caught_by("columns_may_stand_in_any_order_and_more_may_be_there")
class GoesByPosition(Centroid):
    def predict(self, data):
        self.fitted.conform(data)  # so that a missing column is noticed
        numbers = [field for field in data.schema if field.type is FieldType.NUMERIC and field.name in self.fitted.inputs.names]
        matrix = np.stack([data.to_numpy(field.name) for field in numbers], axis=1)
        matrix = np.where(np.isnan(matrix), self.mean, matrix)
        scores = -((matrix[:, None] - self.centres[None]) ** 2).sum(axis=2)
        table = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        names = np.array(self.fitted.classes, dtype=object)
        return Predictions(names[table.argmax(axis=1)] if len(table) else names[:0], self.fitted.classes, table)


@caught_by("columns_may_stand_in_any_order_and_more_may_be_there")
class MissingColumnsAreZero(Centroid):
    def predict(self, data):
        if set(self.fitted.inputs.names) <= set(data.schema.names):
            return super().predict(data)
        names = np.array(self.fitted.classes, dtype=object)
        return Predictions(names[[0] * len(data)], self.fitted.classes, np.tile([1.0, 0.0], (len(data), 1)))


@caught_by("gaps_and_unseen_categories_are_answered_or_refused")
class FallsOverGaps(Centroid):
    def predict(self, data):
        for field in data.schema.features:
            if field.type is FieldType.NUMERIC and len(data) and np.isnan(data.to_numpy(field.name)).all():
                raise ZeroDivisionError("no values")
        return super().predict(data)


@caught_by("gaps_and_unseen_categories_are_answered_or_refused")
class FallsOverNewCategories(Centroid):
    def fit(self, data, training=None):
        self.known = {f.name: set(data.to_list(f.name)) for f in data.schema.features if f.type is FieldType.CATEGORICAL}
        return super().fit(data, training)

    def predict(self, data):
        for name, values in getattr(self, "known", {}).items():
            for value in data.to_list(name) if name in data.schema.names else ():
                if value is not None and value not in values:
                    raise KeyError(value)
        return super().predict(data)


@caught_by("what_is_saved_comes_back")
class ForgetsAPart(Centroid):
    @classmethod
    def load(cls, files):
        model = super().load(files)
        model.centres = model.centres * 0.9
        return model


@caught_by("saving_twice_gives_the_same_bytes")
class WritesTheTime(Centroid):
    def save(self, files):
        super().save(files)
        files.text("made", str(time.perf_counter_ns()))


@caught_by("no_file_is_a_pickle")
class SavesAPickle(Centroid):
    def save(self, files):
        super().save(files)
        files.text("extra", pickle.dumps({"a": 1}, protocol=0).decode())


@caught_by("threads_may_predict_at_once")
class KeepsTheCallOnItself(Centroid):
    def predict(self, data):
        self.rows = self.fitted.conform(data)
        time.sleep(0.002)
        return super().predict(self.rows)


@caught_by("global_state_stays_as_it_was")
class SeedsEverybody(Centroid):
    def fit(self, data, training=None):
        np.random.seed(0)
        return super().fit(data, training)


@caught_by("global_state_stays_as_it_was")
class SetsTheEnvironment(Centroid):
    def fit(self, data, training=None):
        os.environ["ZOO_WAS_HERE"] = str(time.perf_counter_ns())
        return super().fit(data, training)


@caught_by("a_cancelled_fit_stops_and_leaves_no_model")
class GoesOnWhenCancelled(Centroid):
    def fit(self, data, training=None):
        try:
            return super().fit(data, training)
        except Exception:
            return super().fit(data)


@caught_by("linear_structure_reproduces_predict", capabilities=["probabilities", "linear"])
class OtherCoefficients(Centroid):
    capabilities = Capabilities(probabilities=True, linear=True)

    def encoded_view(self):
        names = tuple(field.name for field in self.fitted.inputs if field.type is FieldType.NUMERIC)
        weight = 2 * (self.centres[1] - self.centres[0])
        intercept = (self.centres[0] ** 2).sum() - (self.centres[1] ** 2).sum() + 0.1
        return EncodedView(lambda data: self._matrix(data, self.fitted.inputs, self.mean)[0], names, None, weight, intercept, "log-odds")


@caught_by("tree_structure_reproduces_predict", capabilities=["probabilities", "tree_ensemble"])
class NoTreesInside(Centroid):
    capabilities = Capabilities(probabilities=True, tree_ensemble=True)

    def encoded_view(self):
        names = tuple(field.name for field in self.fitted.inputs if field.type is FieldType.NUMERIC)
        return EncodedView(lambda data: self._matrix(data, self.fitted.inputs, self.mean)[0], names, output="probability")


@caught_by("torch_module_reproduces_predict", capabilities=["probabilities", "torch_module"])
class OtherModule(Centroid):
    capabilities = Capabilities(probabilities=True, torch_module=True)

    def torch_view(self):
        import torch

        def encode(data):
            return torch.from_numpy(self._matrix(self.fitted.conform(data), self.fitted.inputs, self.mean)[0])

        return TorchView(torch.nn.Identity(), encode, (), lambda out: torch.full((len(out), 2), 0.5))


@caught_by("private_training_bounds_each_record", capabilities=["probabilities", "private_training"])
class ClaimsPrivacy(Centroid):
    capabilities = Capabilities(probabilities=True, private_training=True)


@caught_by("planted_personal_data_never_reach_the_model")
class HidesItsCalls(Centroid):
    """Puts functions in the place of its methods, past whoever watches the class."""

    def __init__(self, **params):
        super().__init__(**params)
        self.fit = lambda data, training=None: Centroid.fit(self, data, training)
        self.predict = lambda data: Centroid.predict(self, data)


@caught_by("every_call_leaves_one_intent_and_one_outcome")
class FailsWhenGovernanceEvaluates(Centroid):
    """Knows that it is watched, and gives up on what an evaluation asks."""

    def predict(self, data):
        if inside_call.get() and data.schema.target is not None and len(data) > 100:
            raise RuntimeError("too many rows")
        return super().predict(data)


@caught_by("a_refusal_of_private_training_reaches_the_caller")
class ClaimsPrivacyBehindTheRegistration(Centroid):
    """Its class is honest, its objects say that they train privately."""

    def __init__(self, **params):
        super().__init__(**params)
        self.capabilities = Capabilities(probabilities=True, private_training=True)


@caught_by("it_is_registered_and_comes_back")
class SavesOtherBytesOnceLoaded(Centroid):
    @classmethod
    def load(cls, files):
        model = super().load(files)
        model.again = True
        return model

    def save(self, files):
        super().save(files)
        if getattr(self, "again", False):
            files.text("again", "yes")


@caught_by("its_predictions_are_explained_and_add_up")
class AnswersMixturesOtherwise(Centroid):
    """Gives up on rows that no training row was like, such as those that explanations ask for."""

    def predict(self, data):
        if len(data) > 200:
            raise InvalidInput("Too many rows at once.")
        return super().predict(data)


@caught_by("it_learns_more_than_the_commonest_answer")
class LearnsNothing(Centroid):
    def fit(self, data, training=None):
        super().fit(data, training)
        self.centres = self.centres * 0
        return self


class Sleeps(Centroid):
    """Never comes back from `fit`; in no pen, because each run of it costs the whole time that a check may take."""

    type = "zoo.sleeps"

    def fit(self, data, training=None):
        threading.Event().wait()
