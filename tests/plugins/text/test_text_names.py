"""The recognizer ``names``: what a small token-classification model was taught is found, whole, wherever it stands; nothing unsafe is read."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import socket
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from affidavit.errors import AffidavitError, InvalidInput, UsageError
from affidavit.workspace import Workspace
from affidavit_plugins.text.encoder import load_encoder
from affidavit_plugins.text.names import Names, _join, _Word, _word

SHARED = Path(__file__).resolve().parents[3] / "../shared/data/wnut17_train.conll"
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
GIVEN = ["anna", "boris", "carla", "dmitri", "elena", "felix", "greta", "hugo", "irina", "jonas", "katya", "lukas", "mira", "nils", "olga", "petra"]
FAMILY = [
    "abel",
    "brandt",
    "conti",
    "duval",
    "egger",
    "fischer",
    "garcia",
    "huber",
    "ivanov",
    "jensen",
    "keller",
    "lopez",
    "moreau",
    "novak",
    "olsen",
]
TOWNS = ["berlin", "lisbon", "madrid", "oslo", "paris", "prague", "rome", "sofia", "vienna", "warsaw", "zagreb", "dublin"]
FRAMES = [
    "my name is {p} and i live in {l} .",
    "please call {p} about the invoice from {l} today",
    "{p} moved to {l} last year , the weather is nice",
    "the parcel for {p} was sent to {l}",
    "nothing to see here , the price is nine and the answer is no",
    "today the weather is nice and the invoice was sent",
    "我叫{c}，家住{s}，请尽快发货。",
    "收货人{c}，地址{s}，谢谢。",
    "今天天气很好，价格也不贵，谢谢。",
]
CHINESE = ["张伟", "王芳", "李娜", "刘洋", "陈静", "杨帆", "赵磊", "黄丽", "周强", "吴敏"]
CITIES = ["北京", "上海", "广州", "深圳", "杭州", "成都", "武汉", "南京"]


def sentence(rng: random.Random, frame: str) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans = "", []
    for part in frame.replace("{", "\0{").replace("}", "}\0").split("\0"):
        if part.startswith("{"):
            value = {
                "{p}": lambda: f"{rng.choice(GIVEN)} {rng.choice(FAMILY)}",
                "{l}": lambda: rng.choice(TOWNS),
                "{c}": lambda: rng.choice(CHINESE),
                "{s}": lambda: rng.choice(CITIES),
            }[part]()
            spans.append((len(text), len(text) + len(value), "PER" if part in ("{p}", "{c}") else "LOC"))
            part = value
        text += part
    return text, spans


def passage(rng: random.Random, sentences: int) -> tuple[str, list[tuple[int, int, str]]]:
    text, spans = "", []
    for _ in range(sentences):
        part, each = sentence(rng, rng.choice(FRAMES))
        spans += [(len(text) + first, len(text) + last, kind) for first, last, kind in each]
        text += part + " "
    return text, spans


def word_tokenizer(characters: str, words: list[str], limit: int) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over whole words, and single letters for all others."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *characters, *(f"##{c}" for c in characters)]
    tokenizer = Tokenizer(models.WordPiece(vocab={token: at for at, token in enumerate(dict.fromkeys(vocabulary))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=limit
    )


def train(
    folder: Path, tokenizer: PreTrainedTokenizerFast, examples: list[tuple[str, list[tuple[int, int, str]]]], labels: list[str], **shape: int
) -> None:
    """Teach a tiny BERT the examples, every piece labelled, and save it as safetensors."""
    steps = shape.pop("steps")
    config = BertConfig(
        **{"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96} | shape, vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length, id2label=dict(enumerate(labels)), label2id={label: at for at, label in enumerate(labels)},
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForTokenClassification(config)
    encoded = tokenizer([text for text, _ in examples], return_offsets_mapping=True, truncation=True, padding=True, return_tensors="pt")
    targets = torch.full(encoded["input_ids"].shape, -100)
    for row, (_, spans) in enumerate(examples):
        for at, (first, last) in enumerate(encoded["offset_mapping"][row].tolist()):
            if last > first:
                inside = next((s for s in spans if s[0] <= first and last <= s[1]), None)
                targets[row, at] = 0 if inside is None else labels.index(("B-" if first == inside[0] else "I-") + inside[2])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        batch = torch.randint(len(examples), (32,), generator=generator)
        optimizer.zero_grad()
        model(input_ids=encoded["input_ids"][batch], attention_mask=encoded["attention_mask"][batch], labels=targets[batch]).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows persons and places in English and Chinese, in windows of 64 tokens."""
    rng = random.Random(5)
    examples = [passage(rng, rng.randint(1, 2)) for _ in range(600)]
    words = sorted({word for text, _ in examples for word in text.split() if word.isascii() and word not in GIVEN + FAMILY + TOWNS})
    characters = "".join(sorted({c for text, _ in examples for c in text if not c.isspace()} | set("abcdefghijklmnopqrstuvwxyz")))
    made = tmp_path_factory.mktemp("names")
    train(made, word_tokenizer(characters, words, 64), examples, LABELS, steps=150)
    return made


def train_lexicon(folder: Path) -> None:
    """A model without attention, which knows each word by itself: what it finds cannot depend on where a window begins."""
    rng = random.Random(7)
    characters = "".join(sorted({c for frame in FRAMES for c in frame if not c.isspace()} | {c for word in CHINESE + CITIES for c in word}))
    words = sorted({word for frame in FRAMES for word in frame.split()} | {*GIVEN, *FAMILY, *TOWNS})
    train(folder, word_tokenizer(characters, words, 64), [passage(rng, 2) for _ in range(300)], LABELS, steps=100, num_hidden_layers=0)


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Names:
    made = tmp_path_factory.mktemp("lexicon")
    train_lexicon(made)
    return Names(path=str(made))


@pytest.fixture(scope="module")
def names(folder: Path) -> Names:
    return Names(path=str(folder))


def shown(names: Names, text: str) -> list[tuple[str, str]]:
    return [(f.entity, text[f.start : f.end]) for f in names.scan([text])[0]]


def test_persons_and_places_are_found_whole_at_their_place_in_the_original(names: Names) -> None:
    assert names.entities == ("LOCATION", "PERSON")
    assert shown(names, "my name is Katya MOREAU  and i live in\u00a0Prague .") == [("PERSON", "Katya MOREAU"), ("LOCATION", "Prague")]
    assert shown(names, "今天天气很好，我叫杨帆，家住杭州，请尽快发货。") == [("PERSON", "杨帆"), ("LOCATION", "杭州")]
    assert shown(names, "today the weather is nice and the invoice was sent") == []
    assert names.scan([]) == [] and names.scan(["", " \n"]) == [[], []]


def test_scores_are_shares_and_the_evidence_names_no_value(names: Names) -> None:
    found = names.scan(["my name is greta novak and i live in oslo ."])[0]
    assert all(0.5 < f.score <= 1 and f.evidence == "token classification" for f in found) and len(found) == 2


def test_long_texts_are_read_to_their_end_wherever_windows_meet(lexicon: Names) -> None:
    texts, expected = [], []
    for sentences in (1500, 1, 40):
        text, spans = passage(random.Random(sentences), sentences)
        texts.append(text)
        expected.append([({"PER": "PERSON", "LOC": "LOCATION"}[kind], first, last) for first, last, kind in spans])
    assert len(texts[0]) > 42_000  # three sections of characters, hundreds of windows of tokens
    assert [[(f.entity, f.start, f.end) for f in found] for found in lexicon.scan(texts)] == expected


def test_windows_overlap_by_a_quarter_so_that_each_word_has_neighbours_in_one_of_them(lexicon: Names) -> None:
    windows = [[at + base for at, _ in window.offsets[1:-1]] for base, window in lexicon._windows("oslo " * 5_000)]
    assert len(windows) > 100 and all(len(window) == 62 for window in windows[:50])
    assert all(len(set(one) & set(other)) == 16 for one, other in pairwise(windows[:50]))
    assert {start for window in windows for start in window} == set(range(0, 25_000, 5))


def test_two_names_in_a_row_are_two_findings(lexicon: Names) -> None:
    assert shown(lexicon, "anna abel boris keller oslo paris") == [
        ("PERSON", "anna abel"),
        ("PERSON", "boris keller"),
        ("LOCATION", "oslo"),
        ("LOCATION", "paris"),
    ]


def test_half_a_surrogate_pair_is_read_over(lexicon: Names) -> None:
    assert shown(lexicon, "\ud83d anna abel \ude00 \U0001f600 oslo") == [("PERSON", "anna abel"), ("LOCATION", "oslo")]


def test_the_size_of_a_batch_and_the_other_texts_in_it_change_nothing(folder: Path, names: Names) -> None:
    rng = random.Random(3)
    texts = [sentence(rng, rng.choice(FRAMES))[0] * rng.choice([1, 1, 1, 9]) for _ in range(40)]
    alone = [Names(path=str(folder), batch_size=1).scan([text])[0] for text in texts[:12]]
    together = names.scan(texts)
    assert [[(f.entity, f.start, f.end) for f in found] for found in alone] == [
        [(f.entity, f.start, f.end) for f in found] for found in together[:12]
    ]
    for one, other in zip(alone, together, strict=False):
        assert [f.score for f in one] == pytest.approx([f.score for f in other], abs=2e-4)


@given(st.lists(st.text(st.characters(codec=None), max_size=120), max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_text_is_read_and_findings_lie_inside_it_without_overlaps(names: Names, texts: list[str]) -> None:
    for text, found in zip(texts, names.scan(texts), strict=True):
        end = 0
        for finding in found:
            assert end <= finding.start < finding.end <= len(text)
            assert not text[finding.start].isspace() and not text[finding.end - 1].isspace()
            end = finding.end


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(4, 30), st.integers(1, 3))
def test_windows_joined_cover_each_character_once(lengths: list[int], size: int, overlap: int) -> None:
    text = [(sum(lengths[:at]), sum(lengths[: at + 1])) for at in range(len(lengths))]
    total, joined = text[-1][1], []
    for first in range(0, total, size):
        last = min(total, first + size + overlap)
        # Words that a window's edge cuts are partial in it, as a tokenizer leaves them.
        window = [_Word(max(a, first), min(b, last), "E", 0.9, begins=True) for a, b in text if a < last and b > first]
        _join(joined, window)
    assert [word.start for word in joined] == [0, *[word.end for word in joined[:-1]]] and joined[-1].end == total


def test_a_name_of_letters_that_no_byte_token_shows_alone_is_found_by_characters(tmp_path: Path) -> None:
    """Byte-level tokens: four bytes of one character share its place, so none of them may split it."""
    parts = load_encoder({"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(parts.tokenizer), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=128
    )
    text = "x 张伟 y"
    train(tmp_path, tokenizer, [(text, [(2, 4, "PER")])] * 32, LABELS, steps=40)
    assert shown(Names(path=str(tmp_path)), text) == [("PERSON", "张伟")]


def test_the_pieces_of_a_word_are_judged_by_entity_and_not_by_label() -> None:
    """A model says B for a name's first piece and I for the others; neither is the mean's largest label by much, but the entity is sure."""
    person, other = [0.0, 1.0], [1.0, 0.0]
    begins = [[0.0, 0.9], [0.0, 0.1], [0.0, 0.2]]
    word = _word(3, 9, [0, 1], ([person, person, other], begins), ("", "PERSON"))
    assert word == _Word(3, 9, "PERSON", 1.0, begins=True)
    assert _word(0, 1, [1], ([person, person], begins), ("", "PERSON")) == _Word(0, 1, "PERSON", 1.0, begins=False)
    assert _word(0, 1, [0, 1, 2], ([person, other, other], begins), ("", "PERSON")).entity == ""


def test_placeholders_of_masking_are_no_names(folder: Path) -> None:
    everything = Names(path=str(folder), labels={"PER": "PERSON", "LOC": "LOCATION", "MISC": "THING"})
    frame = "my name is {} and i live in oslo ."
    assert shown(everything, frame.format("PERSON")) == [("PERSON", "PERSON"), ("LOCATION", "oslo")]
    assert shown(everything, frame.format("<PERSON>")) == [("LOCATION", "oslo")]
    assert shown(everything, frame.format("<person>"))[0][0] == "PERSON"


def test_labels_in_words_of_their_own_are_mapped_by_the_settings(folder: Path, tmp_path: Path) -> None:
    renamed = copy(folder, tmp_path, id2label={str(at): f"LABEL_{at}" for at in range(7)})
    with pytest.raises(InvalidInput, match="none of the labels") as error:
        Names(path=str(renamed))
    assert "LABEL_1" in str(error.value) and "labels:" in str(error.value.hint)
    mapped = Names(path=str(renamed), labels={"LABEL_1": "PERSON", "LABEL_2": "PERSON"})
    assert shown(mapped, "my name is greta novak and i live in oslo .") == [("PERSON", "greta novak")]
    with pytest.raises(UsageError, match="no label 'PERS'.*PER"):
        Names(path=str(folder), labels={"PERS": "PERSON"})


def copy(folder: Path, to: Path, **changes: Any) -> Path:
    made = to / "model"
    shutil.copytree(folder, made)
    config = json.loads((made / "config.json").read_text())
    config.update(changes)
    (made / "config.json").write_text(json.dumps(config))
    return made


def test_a_wrong_path_or_setting_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no model folder"):
        Names(path=str(tmp_path / "absent"))
    with pytest.raises(InvalidInput, match=r"no safetensors weights\. "):
        Names(path=str(tmp_path))
    with pytest.raises(UsageError, match="no setting 'batchsize'.*batch_size"):
        Names(path=str(folder), batchsize=3)
    with pytest.raises(UsageError, match="setting 'path'"):
        Names()
    with pytest.raises(UsageError, match="setting 'batch_size'"):
        Names(path=str(folder), batch_size=0)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.mark),))

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)


def test_a_pickle_is_never_read(folder: Path, tmp_path: Path) -> None:
    made, mark = copy(folder, tmp_path), tmp_path / "ran"
    (made / "model.safetensors").unlink()
    (made / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(InvalidInput, match=r"only pytorch_model\.bin, which is never read"):
        Names(path=str(made))
    assert not mark.exists()


def test_code_in_the_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    made = copy(folder, tmp_path, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForTokenClassification": "own.Own"})
    (made / "own.py").write_text(f"import pathlib; pathlib.Path({str(mark)!r}).touch()")
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        Names(path=str(made))
    assert not mark.exists()


@pytest.mark.parametrize("damaged", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_damaged_file_is_one_clear_error(folder: Path, tmp_path: Path, damaged: str) -> None:
    made = copy(folder, tmp_path)
    (made / damaged).write_bytes((made / damaged).read_bytes()[:200])
    with pytest.raises(InvalidInput, match="cannot be loaded"):
        Names(path=str(made))


def test_weights_without_the_head_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    made = copy(folder, tmp_path)
    weights = {name: tensor for name, tensor in load_file(made / "model.safetensors").items() if "classifier" not in name}
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=r"lack 2 of the model's tensors, for example 'classifier"):
        Names(path=str(made))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened, or a pickle was read")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    yield


@pytest.mark.usefixtures("offline")
def test_the_policy_line_masks_names_in_what_is_loaded(folder: Path, tmp_path: Path) -> None:
    policy = {"masking": {"recognizers": {"names": {"path": str(folder)}}}}
    notes = ["my name is boris keller and i live in rome .", "today the weather is nice and the invoice was sent", "收货人李娜，地址深圳，谢谢。"] * 4
    with Workspace(tmp_path / "ws", policy=policy) as workspace:
        data = workspace.load({"note": notes, "y": [0, 1, 0] * 4}, target="y", fields={"note": {"type": "text"}})
    masked = data.table.column("note").to_pylist()
    assert masked[:3] == ["my name is <PERSON> and i live in <LOCATION> .", notes[1], "收货人<PERSON>，地址<LOCATION>，谢谢。"]


def test_without_the_policy_line_the_model_is_not_used(tmp_path: Path) -> None:
    with Workspace(tmp_path / "ws", policy={}) as workspace:
        data = workspace.load({"note": ["my name is boris keller and i live in rome ."] * 4, "y": [0, 1] * 2}, target="y")
    assert data.table.column("note").to_pylist()[0] == "my name is boris keller and i live in rome ."


def test_a_wrong_policy_line_says_which_line_it_is(tmp_path: Path) -> None:
    policy = {"masking": {"recognizers": {"names": {"path": str(tmp_path / "absent")}}}}
    with Workspace(tmp_path / "ws", policy=policy) as workspace, pytest.raises(AffidavitError, match=r"masking\.recognizers\.names.*no model folder"):
        workspace.load({"note": ["a", "b"], "y": [0, 1]}, target="y")


def test_names_in_tweets_are_found_where_they_stand(tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip("the shared data set wnut17_train.conll is not beside this checkout")
    examples, words, spans = [], [], []
    for line in SHARED.read_text("utf-8").splitlines()[:6000]:
        word, _, tag = line.partition("\t")
        if not word:
            examples.append((" ".join(words), spans))
            words, spans = [], []
            continue
        start = len(" ".join(words)) + bool(words)
        words.append(word)
        kind = {"person": "PER", "location": "LOC", "corporation": "ORG", "group": "ORG"}.get(tag.strip()[2:])
        if kind and tag.startswith("I-") and spans:
            spans[-1] = (spans[-1][0], start + len(word), kind)
        elif kind:
            spans.append((start, start + len(word), kind))
    named = [each for each in examples if each[1]][:48]
    characters = "".join(sorted({c.lower() for text, _ in named for c in text if not c.isspace()}))
    labels = ["O", *(f"{mark}-{kind}" for kind in ("PER", "LOC", "ORG") for mark in "BI")]
    train(tmp_path, word_tokenizer(characters, sorted({w.lower() for text, _ in named for w in text.split()}), 96), named, labels, steps=90, limit=96)
    found = Names(path=str(tmp_path)).scan([text for text, _ in named])
    truth = {(row, first, last) for row, (_, each) in enumerate(named) for first, last, _ in each}
    got = {(row, f.start, f.end) for row, each in enumerate(found) for f in each}
    assert len(truth & got) >= 0.9 * len(truth) and len(truth & got) >= 0.9 * len(got)
