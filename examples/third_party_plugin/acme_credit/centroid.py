"""Nearest centroid: each class is the mean of its rows, and a row belongs to the class whose mean is nearest."""

import numpy as np

from affidavit import Capabilities, FieldType, Model, Predictions, Progress, Schema, Signature, Training, UsageError
from affidavit.interfaces.infer import class_labels, infer_task

SHARPNESS = 10.0  # how quickly a class loses with distance


class Centroid(Model):
    type = "acme.centroid"
    capabilities = Capabilities(probabilities=True)

    def fit(self, data, training=None):
        """Learn centroids. Missing values stand at the mean; a category is a column of zeros and ones."""
        task, fields = infer_task(data), data.schema.features
        if not task.classifies or any(field.type in (FieldType.TEXT, FieldType.TENSOR) for field in fields):
            raise UsageError(f"'{self.type}' tells classes by numbers and categories alone.", hint="Leave other columns out.")
        labels, classes = class_labels(data)
        self._levels = {f.name: sorted(set(data.to_text(f.name)) - {None}) for f in fields if f.type is FieldType.CATEGORICAL}
        matrix = self._matrix(data)
        known = np.ma.masked_invalid(matrix)
        self._center, spread = known.mean(axis=0).filled(0), known.std(axis=0).filled(0)
        self._scale = np.where(spread > 1e-9, spread, 1)
        rows = self._scaled(matrix)
        self._centroids = np.stack([rows[labels == label].mean(axis=0) for label in classes])
        (training or Training()).report(Progress(1, 1, "fitted"))
        self.signature = Signature(Schema(fields), task, data.schema.target.name, classes)
        return self

    def predict(self, data):
        """The nearest class, and a softmax over the negative mean squared distances."""
        rows = self._scaled(self._matrix(self.fitted.conform(data)))
        distance = ((rows[:, None] - self._centroids) ** 2).mean(axis=2)
        weight = np.exp(SHARPNESS * (distance.min(axis=1, keepdims=True) - distance))
        classes = self.fitted.classes
        return Predictions(np.array(classes)[distance.argmin(axis=1)], classes, weight / weight.sum(axis=1, keepdims=True))

    def save(self, files):
        arrays = {"center": self._center, "scale": self._scale, "centroids": self._centroids}
        files.json("centroids", {"levels": self._levels, **{name: array.tolist() for name, array in arrays.items()}})

    @classmethod
    def load(cls, files):
        model, saved = cls(**files.params), files.json("centroids")
        model._center, model._scale, model._centroids = (np.array(saved[name]) for name in ("center", "scale", "centroids"))
        model._levels, model.signature = saved["levels"], files.signature
        return model

    def _matrix(self, data):
        def columns(name):
            if name not in self._levels:
                return data.to_numpy(name)[:, None]
            return np.array(data.to_text(name), dtype=object)[:, None] == np.array(self._levels[name], dtype=object)

        return np.hstack([columns(field.name) for field in data.schema.features]).astype(float)

    def _scaled(self, matrix):
        return np.nan_to_num((matrix - self._center) / self._scale, nan=0.0)
