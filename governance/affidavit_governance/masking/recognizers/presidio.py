"""Microsoft Presidio as another recognizer: ``presidio``, with its patterns alone or with a spaCy model that is installed already."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import spacy
import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpArtifacts, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import EmailRecognizer, SpacyRecognizer
from pydantic import BaseModel, ConfigDict
from spacy.tokenizer import Tokenizer  # type: ignore[import-not-found]  # a compiled module without stubs
from spacy.tokens import Doc

from affidavit.errors import InvalidInput, UsageError, nearest
from affidavit.interfaces.masking import Finding, read_settings

_SECTION = 10_000
_OVERLAP = 1_000
"""Characters. Presidio compares each of its findings with each, and spaCy refuses texts of a million."""
_WORD = 200
_LONG_WORD = re.compile(rf"\S{{{_WORD + 1},}}")
"""spaCy's tokenizer takes marks off both ends of a word one by one and searches the rest each time: the square of a word's length."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUFFIXES = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


class PresidioSettings(BaseModel):
    """Settings of the recognizer ``presidio``.

    Attributes
    ----------
    entities
        What to look for; default: all that Presidio's recognizers of the language find.
    language
        ISO 639-1 code.
    model
        A spaCy pipeline, an installed package or a folder, for names, places and lemmas. Without one only patterns are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entities: tuple[str, ...] | None = None
    language: str = "en"
    model: str | None = None


class Presidio:
    """Finds what Presidio's own recognizers find. Nothing is fetched: neither models nor the list of domain suffixes.

    Raises
    ------
    UsageError
        A setting is unknown or wrong, Presidio finds no such entity, or spaCy knows no such language or model.
    InvalidInput
        The model cannot be loaded.
    """

    def __init__(self, **settings: Any) -> None:
        chosen = read_settings(PresidioSettings, settings, whose="Recognizer 'presidio'")
        self._language = chosen.language
        engine = _Spacy(_pipeline(chosen.language, chosen.model), chosen.language, lemmas=chosen.model is not None)
        registry = RecognizerRegistry(supported_languages=[chosen.language])
        with _quiet():
            registry.load_predefined_recognizers(languages=[chosen.language], nlp_engine=engine)
        registry.recognizers = [
            _Email(supported_language=chosen.language) if isinstance(each, EmailRecognizer) else each
            for each in registry.recognizers
            if chosen.model is not None or not isinstance(each, SpacyRecognizer)
        ]
        self._analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[chosen.language])
        known = sorted(self._analyzer.get_supported_entities(chosen.language))
        for entity in chosen.entities or ():
            if entity not in known:
                raise UsageError(
                    f"Recognizer 'presidio', setting 'entities': Presidio finds no '{entity}' in language '{chosen.language}'"
                    f"{'' if chosen.model else ' without a model'}.{nearest(entity, known)}",
                    hint=f"Known: {', '.join(known)}.",
                )
        self._entities = tuple(known if chosen.entities is None else chosen.entities)

    @property
    def entities(self) -> Sequence[str]:
        """The entities that it looks for."""
        return self._entities

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        """All findings in each text; they may overlap."""
        return [list(dict.fromkeys(self._find(_SURROGATE.sub("\ufffd", text)))) for text in texts]

    def _find(self, text: str) -> Iterator[Finding]:
        for base in range(0, max(1, len(text) - _OVERLAP), _SECTION - _OVERLAP):
            for result in self._analyzer.analyze(text[base : base + _SECTION], language=self._language, entities=list(self._entities)):
                by = result.recognition_metadata["recognizer_name"]
                yield Finding(result.entity_type, base + result.start, base + result.end, round(float(result.score), 4), f"Presidio {by}")


class _Spacy(SpacyNlpEngine):
    """An engine around a pipeline that is loaded already: Presidio's own would fetch one that is missing."""

    nlp: Any

    def __init__(self, pipeline: Any, language: str, *, lemmas: bool) -> None:
        super().__init__(models=[{"lang_code": language, "model_name": "given"}])
        if isinstance(pipeline.tokenizer, Tokenizer):
            pipeline.tokenizer = _Tokenizer(pipeline.tokenizer)
        self.nlp = {language: pipeline}
        self._lemmas = lemmas

    def process_text(self, text: str, language: str) -> NlpArtifacts:
        """Tokens, lemmas and entities of a text. Without a model a word is its own lemma, so that words nearby still count."""
        document = self.nlp[language](text)
        if not self._lemmas:
            for token in document:
                token.lemma_ = token.lower_
        return self._doc_to_nlp_artifact(document, language)


class _Email(EmailRecognizer):
    """Presidio's e-mail recognizer with the suffix list that comes with tldextract: its own fetches the newest from the network."""

    def validate_result(self, pattern_text: str) -> bool:
        """Whether the domain ends in a public suffix."""
        return _SUFFIXES(pattern_text).fqdn != ""


class _Tokenizer:
    """A rule-based tokenizer that is handed no longer words than `_WORD` characters, and a longer one in parts."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __call__(self, text: str) -> Doc:
        cuts = [cut for word in _LONG_WORD.finditer(text) for cut in range(word.start() + _WORD, word.end(), _WORD)]
        parts = [self._tokenizer(text[first:last]) for first, last in pairwise([0, *cuts, len(text)])]
        return parts[0] if len(parts) == 1 else Doc.from_docs(parts, ensure_whitespace=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Presidio warns of each recognizer of another language that it leaves out."""
    logger = logging.getLogger("presidio-analyzer")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _pipeline(language: str, model: str | None) -> Any:
    if model is None:
        try:
            return spacy.blank(language)
        except ImportError:
            raise UsageError(f"Recognizer 'presidio', setting 'language': spaCy cannot read '{language}' as it is installed here.") from None
    folder = Path(model).expanduser()
    if not (folder.is_dir() or spacy.util.is_package(model)):
        raise UsageError(
            f"Recognizer 'presidio', setting 'model': there is no spaCy package or folder '{model}'.",
            hint="Install it first; nothing is fetched here.",
        )
    try:
        return spacy.load(folder if folder.is_dir() else model)
    except Exception as error:  # a pipeline's own components load here, and may raise anything
        raise InvalidInput(f"Recognizer 'presidio': the model '{model}' cannot be loaded: {' '.join(str(error).split())[:300]}") from error
