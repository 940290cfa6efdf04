"""Words as players."""

from __future__ import annotations

import numpy as np
from tests.governance.explain.explain_models import Formula, sms, spam

from affidavit_governance.explain.methods.sampled import Permutation
from affidavit_governance.explain.players.words import WordBlock


def test_words_are_players_and_records_hold_no_text():
    data = sms(["call now for a free prize", "hello there", "", None, " ".join(["word"] * 70 + ["free", "now"])])
    found = Permutation().explain(Formula(spam, data), data, data)
    np.testing.assert_allclose(found.values[0, :6], [0, 0.15, 0, 0, 0.35, 0], atol=1e-12)
    np.testing.assert_allclose(found.values[1:4], 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert found.inputs[0][:6] == ["call", "now", "for", "a", "free", "prize"] and found.inputs[0][6] is None
    assert len(found.players) == 48 and found.players[0] == "text [1]"
    assert "free" not in str(found.to_json()) and "prize" not in str(found.to_json())


def test_word_block_cuts_long_texts_and_keeps_every_word():
    block = WordBlock(sms([" ".join(f"w{i}" for i in range(100))]), "text", limit=10)
    assert block.columns(0, np.ones((1, 10), dtype=bool), np.zeros(1, dtype=int))["text"].to_pylist() == [" ".join(f"w{i}" for i in range(100))]
    assert block.columns(0, np.zeros((1, 10), dtype=bool), np.zeros(1, dtype=int))["text"].to_pylist() == [""]
