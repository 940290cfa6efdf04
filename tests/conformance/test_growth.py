"""How the kit tells from processor seconds that a recognizer slows down with the square of the text: on clocks that a busy machine disturbs."""

from __future__ import annotations

from math import log
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affidavit.testing import CheckFailed
from affidavit.testing.kinds.recognizer import api

NO_EXAMPLES = SimpleNamespace(case=SimpleNamespace(examples={}))
DISTURBED = st.lists(st.floats(1, 2.3), min_size=6, max_size=6)
"""How many times as long each measured length takes as on a machine that does nothing else."""


def judge(seconds, disturbed):
    """What the check gives for seconds of our own instead of a recognizer's: None, or it raises."""
    lengths = [api.SHORTEST * 2**doubled for doubled in range(6)]
    taken = {length: seconds(length) * times for length, times in zip(lengths, disturbed, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "_spent", lambda subject, unit, length: taken[length])
        return api.time_grows_with_the_text(NO_EXAMPLES)


@given(DISTURBED)
def test_the_square_of_the_length_is_refused_whichever_measurement_is_disturbed(disturbed):
    with pytest.raises(CheckFailed, match="grows faster than the text"):
        judge(lambda length: 5.0 * (length / api.LONGEST) ** 2, disturbed)


@given(DISTURBED)
def test_n_log_n_passes_whichever_measurement_is_disturbed(disturbed):
    assert judge(lambda length: 5.0 * length * log(length) / (api.LONGEST * log(api.LONGEST)), disturbed) is None
