"""Names, places and organisations in text: the recognizer ``names``, a transformers token-classification model from a local folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict
from pydantic import Field as Setting
from tokenizers import Encoding
from transformers import AutoModelForTokenClassification, AutoTokenizer

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.masking import Finding, read_settings
from affidavit_plugins.text.encoder import PICKLED, open_tokenizer, quiet

LABELS = {
    "PER": "PERSON",
    "PERSON": "PERSON",
    "LOC": "LOCATION",
    "LOCATION": "LOCATION",
    "GPE": "LOCATION",
    "ORG": "ORGANIZATION",
    "ORGANIZATION": "ORGANIZATION",
}
"""Entities by the names that models give their labels: CoNLL 2003, OntoNotes 5 and kin."""

MAX_TOKENS = 512
"""A window has no more tokens, even where the model would take more: attention costs their square."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u2e80-\ua4cf\uf900-\ufaff\U00020000-\U0003ffff]")
_PLACEHOLDER = re.compile(r"<[A-Z][A-Z_]{1,39}>")
"""What masking leaves, which a model may well take for a name: data are masked again when a model is trained on them."""

_SECTION = 20_000
_SECTION_OVERLAP = 1_000
"""Characters. A text of megabytes goes through the tokenizer in sections, so that memory stays flat."""
_PREFIXES = {"B": "B", "I": "I", "M": "I", "E": "I", "L": "I", "S": "B", "U": "B"}
"""What starts an entity and what continues one, in the schemes BIO, BIOES, BMES and BILOU."""


class NamesSettings(BaseModel):
    """Settings of the recognizer ``names``.

    Attributes
    ----------
    path
        A folder with ``config.json``, a fast tokenizer and ``*.safetensors``.
    batch_size
        Windows that go through the model at once.
    labels
        Entities by the model's label names, without ``B-`` and ``I-``; labels that are not named are no findings. Default: `LABELS`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    batch_size: Annotated[int, Setting(ge=1, le=1024)] = 16
    labels: dict[str, str] | None = None


_Shares = tuple[list[list[float]], list[list[float]]]
"""Tokens × entities, twice."""


@dataclass(frozen=True, slots=True)
class _Word:
    """A word, or a single character of a script without spaces: where it stands, its entity ("" for none), how sure, whether it starts one."""

    start: int
    end: int
    entity: str
    score: float
    begins: bool


class Names:
    """Finds what a token-classification model was trained to find; offline, from safetensors alone.

    A word's pieces share one entity: that with the largest softmax, summed over its labels, in the mean of the pieces. A finding is a row of
    words of one entity; its score is the mean of theirs. Longer texts are read in windows that overlap by a quarter, each word where it stands
    farther from a window's edge.

    Raises
    ------
    UsageError
        A setting is unknown or wrong, or `labels` names a label that the model has not.
    InvalidInput
        The folder is missing, has no safetensors weights or no fast tokenizer, its weights do not fill the model, or none of its labels is
        known.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = read_settings(NamesSettings, settings, whose="Recognizer 'names'")
        folder = Path(self._settings.path).expanduser()
        self._model, tokenizer = _load(folder, self._settings.path)
        config = self._model.config
        labels = _labels(config.id2label, self._settings.labels, self._settings.path)
        self._entities = ("", *sorted({entity for _, entity in labels if entity}))
        # labels × entities: which labels stand for an entity, and which of them begin one
        self._stands = torch.tensor([[entity == each for each in self._entities] for _, entity in labels], dtype=torch.float32)
        self._begins = torch.tensor([[begins and entity == each for each in self._entities] for begins, entity in labels], dtype=torch.float32)
        limit = min(MAX_TOKENS, getattr(config, "max_position_embeddings", MAX_TOKENS), tokenizer.model_max_length)
        # RoBERTa and its kin count positions from the padding index on.
        limit -= (config.pad_token_id or 0) + 1 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        self._pad = config.pad_token_id or 0
        self._tokenizer = open_tokenizer(tokenizer.backend_tokenizer.to_str(), int(limit))
        self._tokenizer.enable_truncation(int(limit), stride=int(limit) // 4)

    @property
    def entities(self) -> Sequence[str]:
        """The entities that the labels stand for."""
        return self._entities[1:]

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All findings in each text, in order of position, without overlaps."""
        found: list[list[Finding]] = [[] for _ in texts]
        words: list[_Word] = []
        at = 0
        for index, window in self._read(texts):
            if index != at:
                found[at], words, at = _findings(texts[at], words), [], index
            _join(words, window)
        if texts:
            found[at] = _findings(texts[at], words)
        return found

    def _read(self, texts: Sequence[str]) -> Iterator[tuple[int, list[_Word]]]:
        """The windows of the texts with their words, in order."""
        windows = ((index, base, text, each) for index, text in enumerate(texts) for base, each in self._windows(text))
        while page := list(islice(windows, self._settings.batch_size * 8)):
            # Windows of like length share a batch, so that little of it is padding.
            order = sorted(range(len(page)), key=lambda at: len(page[at][3].ids))
            scores: dict[int, _Shares] = {}
            for first in range(0, len(order), self._settings.batch_size):
                batch = order[first : first + self._settings.batch_size]
                scores.update(zip(batch, self._classify([page[at][3] for at in batch]), strict=True))
            for at, (index, base, text, window) in enumerate(page):
                yield index, list(_words(text, base, window, scores[at], self._entities))

    def _windows(self, text: str) -> Iterator[tuple[int, Encoding]]:
        """Overlapping windows of a text, each with the character that its offsets count from."""
        text = _SURROGATE.sub("\ufffd", text)  # half of a pair alone is no Unicode, which is all that the tokenizer takes
        for base in range(0, max(1, len(text) - _SECTION_OVERLAP), _SECTION - _SECTION_OVERLAP):
            encoding = self._tokenizer.encode(text[base : base + _SECTION])
            for window in (encoding, *encoding.overflowing):
                yield base, window

    def _classify(self, windows: Sequence[Encoding]) -> list[_Shares]:
        """Softmax summed over the labels of each entity, and over those that begin one, for each window."""
        longest = max(len(window.ids) for window in windows)
        ids = torch.full((len(windows), longest), self._pad)
        mask = torch.zeros((len(windows), longest), dtype=torch.long)
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            mask[row, : len(window.ids)] = 1
        with torch.inference_mode():
            shares = self._model(input_ids=ids, attention_mask=mask).logits.float().softmax(-1)
        whole, begin = (shares @ self._stands).tolist(), (shares @ self._begins).tolist()
        return list(zip(whole, begin, strict=True))


def _load(folder: Path, name: str) -> tuple[Any, Any]:
    """Model and tokenizer; nothing is fetched, no pickle is read and no code that lies in the folder is run."""
    if not folder.is_dir():
        raise InvalidInput(f"Recognizer 'names': there is no model folder '{name}'.", hint="Save a token-classification model there.")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
        instead = f", only {pickled[0]}, which is never read." if pickled else "."
        raise InvalidInput(
            f"Recognizer 'names': the folder '{name}' has no safetensors weights{instead}",
            hint="Pickled weights can run code when they are read: convert them to safetensors with a tool that you trust.",
        )
    try:
        with quiet():
            model, loading = AutoModelForTokenClassification.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, local_files_only=True, trust_remote_code=False
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # of a damaged file the tokenizers library says no more than "Exception"
        raise InvalidInput(
            f"Recognizer 'names': the model '{name}' cannot be loaded: {' '.join(str(error).split())[:300]}",
            hint="The folder needs config.json, tokenizer.json and *.safetensors of a token-classification model.",
        ) from error
    if absent := sorted(loading["missing_keys"]):
        raise InvalidInput(f"Recognizer 'names': the weights in '{name}' lack {len(absent)} of the model's tensors, for example '{absent[0]}'.")
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise InvalidInput(f"Recognizer 'names': the model '{name}' has no fast tokenizer.", hint="Add its tokenizer.json.")
    return model.eval(), tokenizer


def _labels(id2label: Mapping[int, str], given: Mapping[str, str] | None, name: str) -> list[tuple[bool, str]]:
    """For each label of the model whether it begins an entity, and which; "" for none."""
    split = []
    for index in range(len(id2label)):
        prefix, mark, rest = id2label[index][:1], id2label[index][1:2], id2label[index][2:]
        tagged = prefix in _PREFIXES and mark in ("-", "_") and rest
        split.append((tagged and _PREFIXES[prefix] == "B", rest if tagged else id2label[index]))
    present = sorted({label for _, label in split if label != "O"})
    for label in given or ():
        if label not in present:
            raise UsageError(
                f"Recognizer 'names', setting 'labels': the model '{name}' has no label '{label}'.{nearest(label, present)}",
                hint=f"Its labels: {', '.join(present)}.",
            )
    known = LABELS if given is None else given
    labels = [(bool(begins), known.get(label, "")) for begins, label in split]
    if not any(entity for _, entity in labels):
        raise InvalidInput(
            f"Recognizer 'names': none of the labels of the model '{name}' is known: {', '.join(present)}.",
            hint="Say what they stand for, for example labels: {LABEL_1: PERSON}.",
        )
    return labels


def _words(text: str, base: int, window: Encoding, shares: _Shares, entities: Sequence[str]) -> Iterator[_Word]:
    """The words of a window. Pieces belong together where letters or digits of a script with spaces meet, or where they share a character."""
    pieces: list[int] = []
    start = end = -1
    for at, ((first, last), special) in enumerate(zip(window.offsets, window.special_tokens_mask, strict=True)):
        first, last = base + first, base + last
        while first < last and text[first].isspace():
            first += 1
        while first < last and text[last - 1].isspace():
            last -= 1
        if special or first >= last:
            continue
        if pieces and (first < end or (first == end and _spaced(text[first - 1]) and _spaced(text[first]))):
            pieces.append(at)
            end = max(end, last)
            continue
        if pieces:
            yield _word(start, end, pieces, shares, entities)
        pieces, start, end = [at], first, last
    if pieces:
        yield _word(start, end, pieces, shares, entities)


def _word(start: int, end: int, pieces: Sequence[int], shares: _Shares, entities: Sequence[str]) -> _Word:
    whole, begin = shares
    means = [sum(whole[at][entity] for at in pieces) / len(pieces) for entity in range(len(entities))]
    best = max(range(len(entities)), key=means.__getitem__)
    return _Word(start, end, entities[best], means[best], 2 * begin[pieces[0]][best] > whole[pieces[0]][best])


def _spaced(character: str) -> bool:
    """Whether a character is a letter or digit of a script that puts spaces between words: Chinese, Japanese, Thai and their neighbours do not."""
    return character.isalnum() and not _UNSPACED.match(character)


def _join(words: list[_Word], window: Iterable[_Word]) -> None:
    """Append the next window: each word of both from where it stands farther from the edge, and every character from one of them."""
    new = list(window)
    if not words or not new or new[0].start >= words[-1].end:
        words += new
        return
    middle = (new[0].start + words[-1].end) // 2
    while len(words) > 1 and words[-1].start >= middle and words[-2].end >= new[0].start:
        words.pop()
    cut = words[-1].end
    words += [_Word(max(word.start, cut), word.end, word.entity, word.score, word.begins and word.start >= cut) for word in new if word.end > cut]


def _findings(text: str, words: Sequence[_Word]) -> list[Finding]:
    """Rows of words of one entity as findings."""
    found = []
    row: list[_Word] = []
    placeholders = [match.span() for match in _PLACEHOLDER.finditer(text)]
    done = 0
    for word in [*words, _Word(len(text), len(text), "", 0.0, False)]:
        while done < len(placeholders) and placeholders[done][1] <= word.start:
            done += 1
        entity = "" if done < len(placeholders) and placeholders[done][0] < word.end else word.entity
        if row and (entity != row[0].entity or word.begins):
            score = sum(each.score for each in row) / len(row)
            found.append(Finding(row[0].entity, row[0].start, row[-1].end, round(score, 4), "token classification"))
            row = []
        if entity:
            row.append(word)
    return found
