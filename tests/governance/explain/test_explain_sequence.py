"""One tag of a sequence labeller, explained by its tokens."""

from __future__ import annotations

import itertools
from math import factorial
from pathlib import Path

import numpy as np
import pytest

from affidavit.errors import InvalidInput, UsageError
from affidavit_governance.explain import explain_tag

WNUT = Path(__file__).parents[4] / "shared/data/wnut17_train.conll"


def place_tagger(sequences):
    """P(place) of a token: 0.2; with a capital 0.5; and 0.4 more after 'in', 0.1 less where 'not' is anywhere."""
    answers = []
    for tokens in sequences:
        place = np.array(
            [
                0.2 + 0.3 * token[:1].isupper() + 0.4 * (i > 0 and tokens[i - 1] == "in") * token[:1].isupper() - 0.1 * ("not" in tokens)
                for i, token in enumerate(tokens)
            ]
        )
        answers.append(np.stack([1 - place, place], axis=1))
    return answers


def test_the_tokens_that_the_rule_reads_get_what_it_gives_them():
    found = explain_tag(place_tagger, ["they", "live", "in", "Leeds", "not", "here"], 3, 1, name="place", replacement="-")
    np.testing.assert_allclose(found.values[0], [0, 0, 0.2, 0.5, -0.1, 0], atol=1e-12)
    assert found.base[0] == pytest.approx(0.2) and found.predicted[0] == pytest.approx(0.8) and found.residual.max() < 1e-12
    assert found.exact and found.errors is None and found.output == "probability of place at token [4]"
    assert found.players[3] == "token [4]" and found.inputs == [["they", "live", "in", "Leeds", "not", "here"]]
    assert "Leeds" not in str(found.to_json()) and found.details["stability"]["probability"] == [1.0]


def test_exact_values_equal_enumeration_by_the_definition():
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(5, 5))
    words = list("abcde")

    def tagger(sequences):
        answers = []
        for tokens in sequences:
            held = np.array([token != "[UNK]" for token in tokens], dtype=float)
            score = 1 / (1 + np.exp(-(weights @ held + held[0] * held[2])))
            answers.append(np.stack([score, 1 - score], axis=1))
        return answers

    def worth(members):
        return tagger([[word if i in members else "[UNK]" for i, word in enumerate(words)]])[0][2, 0]

    found = explain_tag(tagger, words, 2, 0)
    for i in range(5):
        others = [j for j in range(5) if j != i]
        due = sum(
            factorial(size) * factorial(4 - size) / factorial(5) * (worth({*subset, i}) - worth(set(subset)))
            for size in range(5)
            for subset in itertools.combinations(others, size)
        )
        assert found.values[0, i] == pytest.approx(due, abs=1e-12)


def test_a_long_sequence_is_sampled_with_intervals_and_the_same_numbers_each_time():
    tokens = ["word"] * 12 + ["in", "Leeds", "not"] + ["word"] * 12
    found = explain_tag(place_tagger, tokens, 13, 1, budget=1500)
    assert not found.exact and found.method == "leverage" and found.errors is not None
    due = np.zeros(27)
    due[[12, 13, 14]] = 0.2, 0.5, -0.1
    assert (abs(found.values[0] - due) <= found.errors[0] + 1e-12).all()
    assert found.residual.max() < 1e-12 and found.details["model_rows"] <= 1500 + 1
    assert (explain_tag(place_tagger, tokens, 13, 1, budget=1500).values == found.values).all()


def test_absent_tokens_keep_every_position():
    seen = []

    def tagger(sequences):
        seen.extend(sequences)
        return place_tagger(sequences)

    explain_tag(tagger, ["a", "b", "c"], 0, 0)
    assert all(len(tokens) == 3 and all(t in (own, "[UNK]") for t, own in zip(tokens, "abc", strict=True)) for tokens in seen)


def test_wrong_use_and_broken_taggers_are_refused():
    with pytest.raises(UsageError, match="no position 3 in a sequence of 3"):
        explain_tag(place_tagger, ["a", "b", "c"], 3, 1)
    with pytest.raises(UsageError, match="no position 0 in a sequence of 0"):
        explain_tag(place_tagger, [], 0, 1)
    with pytest.raises(InvalidInput, match="2 labels, and no label 2"):
        explain_tag(place_tagger, ["a"], 0, 2)
    with pytest.raises(UsageError, match="too small"):
        explain_tag(place_tagger, ["a"] * 20, 0, 1, budget=30)
    with pytest.raises(InvalidInput, match="tokens × labels was due"):
        explain_tag(lambda sequences: [np.zeros(2)] * len(sequences), ["a", "b"], 0, 0)
    with pytest.raises(InvalidInput, match="not finite"):
        explain_tag(lambda sequences: [np.full((2, 2), np.nan)] * len(sequences), ["a", "b"], 0, 0)
    with pytest.raises(InvalidInput, match="1 answers for 4"):
        explain_tag(lambda sequences: [np.zeros((2, 2))], ["a", "b"], 0, 0)


def test_a_trained_taggers_entities_are_explained_by_words_around_them():
    if not WNUT.exists():
        pytest.skip("the tweets are not on this machine")
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    sentences: list[list[tuple[str, str]]] = [[]]
    for line in WNUT.read_text().splitlines():
        word, _, tag = line.partition("\t")
        if word and tag:
            sentences[-1].append((word, tag.split("-")[0]))
        elif sentences[-1]:
            sentences.append([])

    def features(tokens):
        around = ["<s>", *tokens, "</s>"]
        return [
            [f"w={w.lower()}", f"cap={w[:1].isupper()}", f"end={w[-3:].lower()}", f"before={around[i].lower()}", f"after={around[i + 2].lower()}"]
            for i, w in enumerate(tokens)
        ]

    hasher = FeatureHasher(2**15, input_type="string")
    labels = ["B", "I", "O"]
    train = sentences[:1500]
    matrix = hasher.transform([f for sentence in train for f in features([w for w, _ in sentence])])
    fitted = SGDClassifier(loss="log_loss", alpha=1e-5, random_state=0, max_iter=10, tol=None)
    fitted.fit(matrix, [tag for sentence in train for _, tag in sentence])
    assert list(fitted.classes_) == labels

    def tagger(sequences):
        sizes = np.cumsum([len(tokens) for tokens in sequences])[:-1]
        return np.split(fitted.predict_proba(hasher.transform([f for tokens in sequences for f in features(tokens)])), sizes)

    explained = 0
    for sentence in sentences[1500:]:
        tokens = [word for word, _ in sentence]
        at = next((i for i, (_, tag) in enumerate(sentence) if tag == "B" and 0 < i < len(tokens) - 1), None)
        if at is None or len(tokens) > 10 or tagger([tokens])[0][at, 0] < 0.5:
            continue
        found = explain_tag(tagger, tokens, at, 0, name="B")
        far = [i for i in range(len(tokens)) if abs(i - at) > 1]
        assert found.exact and found.residual.max() < 1e-9
        np.testing.assert_allclose(found.values[0, far], 0, atol=1e-12)  # the tagger reads the token and its two neighbours
        assert abs(found.values[0, at]) > 0.05
        explained += 1
        if explained == 4:
            break
    assert explained == 4
