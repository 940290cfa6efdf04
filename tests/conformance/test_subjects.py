"""What all subjects share: their name in reports, and values that are worked out once."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from tests.conformance.zoo.models import Centroid

from affidavit.testing.checks import CheckFailed
from affidavit.testing.kinds.model.subject import ModelCase, ModelSubject, difference
from affidavit.testing.subjects import once


class Slow:
    hung = threading.Event()

    def __init__(self, hangs=False):
        self.hangs, self.counted = hangs, 0

    @once
    def value(self):
        """A value."""
        self.counted += 1
        if self.hangs:
            self.hung.wait()
        return self.counted


def test_a_value_is_worked_out_once_for_each_object():
    one, other = Slow(), Slow()
    assert [one.value, one.value, other.value] == [1, 1, 1] and Slow.value.__doc__ == "A value."


def test_an_object_that_hangs_takes_no_other_with_it():
    """`functools.cached_property` of Python 3.11 holds one lock for all objects of a class."""
    stuck = Slow(hangs=True)
    threading.Thread(target=lambda: stuck.value, daemon=True).start()
    found = []
    free = threading.Thread(target=lambda: found.append(Slow().value), daemon=True)
    free.start()
    free.join(10)
    Slow.hung.set()
    assert found == [1]


def test_a_subject_is_named_by_its_kind_its_registration_and_its_case():
    assert str(ModelSubject(object, "acme.x")) == "model acme.x"
    assert str(ModelSubject(object, "acme.x", case=ModelCase(name="acme.x", label="regression"))) == "model acme.x (regression)"


def test_answers_are_compared_by_their_size():
    """A model in single precision that answers in millions rounds to more than a millionth."""
    large = np.array([[5e6], [1e3]])
    assert difference(large, large + 0.25) < 1e-6 < difference(large, large + 25)
    assert difference(np.array([[0.5]]), np.array([[0.50001]])) > 1e-6
    assert difference(np.zeros((2, 1)), np.zeros((2, 2))) == float("inf")


def test_a_sample_that_a_model_falls_over_is_not_the_last_that_is_tried():
    class Words(Centroid):
        def fit(self, data, training=None):
            data.table.column("text")
            return super().fit(data, training)

    assert ModelSubject(Words, "zoo.centroid").data.name == "texts"


def test_a_model_that_falls_over_all_samples_is_told_of_each():
    class Falls(Centroid):
        def fit(self, data, training=None):
            raise KeyError("premium")

    with pytest.raises(CheckFailed, match="mixed-table: KeyError: 'premium'.*images: KeyError"):
        _ = ModelSubject(Falls, "zoo.centroid").data
