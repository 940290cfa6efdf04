"""Broken recognizers, at least one for each check, and the sound ones that they are made from."""

from __future__ import annotations

import json
import random
import re
import time

from pydantic import BaseModel, ConfigDict
from tests.conformance.zoo.pen import Pen

from affidavit.interfaces.masking import Finding, read_settings
from affidavit.interfaces.model import inside_call
from affidavit.testing import RecognizerCase
from affidavit.testing.kinds.recognizer.subject import RecognizerSubject

EXAMPLES = {"STAFF_ID": [("badge E-104729 was lost", "E-104729"), ("给E-271828发货", "E-271828")]}
NEAR = ["badge E-10472 was lost", "badge E-1047299 was lost"]
PEN = Pen(RecognizerSubject, "zoo.staff", case=RecognizerCase(examples=EXAMPLES, counterexamples=NEAR))


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    letter: str = "E"


class Staff:
    """Numbers of badges. This one is sound."""

    entities = ("STAFF_ID",)
    score = 0.8
    evidence = "six digits behind a letter"

    def __init__(self, **settings):
        self.letter = read_settings(Settings, settings, whose="Recognizer 'zoo.staff'").letter
        self.pattern = re.compile(rf"(?<![0-9A-Za-z]){re.escape(self.letter)}-[0-9]{{6}}(?![0-9])")

    def scan(self, texts):
        return [[self.finding(text, match.start(), match.end()) for match in self.pattern.finditer(text)] for text in texts]

    def finding(self, text, start, end):
        return Finding("STAFF_ID", start, end, self.score, self.evidence)


PEN.passes(Staff)
caught_by = PEN.caught_by


def words(folder):
    path = folder / "words.json"
    path.write_text(json.dumps(["kestrel", "红隼"]), encoding="utf-8")
    return {"path": str(path)}


@PEN.passes(
    case=RecognizerCase(
        settings=words,
        examples={
            "PROJECT": [("about kestrel, as said", "kestrel"), ("关于红隼项目", "红隼")],
            "PERSON": [("signed by Jana Placeholder", "Jana Placeholder")],
        },
        counterexamples=["about kestrels, as said"],
    )
)
class Words:
    """Finds the words of a file, and one name with a score below a policy's threshold; takes no other settings."""

    entities = ("PROJECT", "PERSON")

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - as plain as an author would write it
            self.words = json.load(file)

    def scan(self, texts):
        return [list(self.find(text)) for text in texts]

    def find(self, text):
        for word in self.words:
            for match in re.finditer(rf"{word}(?!s)", text):
                yield Finding("PROJECT", match.start(), match.end(), 0.9)
        for match in re.finditer("Jana Placeholder", text):
            yield Finding("PERSON", match.start(), match.end(), 0.3, "a name of the list")


@caught_by("recognizer_is_what_it_registered")
class HasAMethodForItsEntities(Staff):
    def entities(self):
        return ["STAFF_ID"]


@caught_by("its_entities_are_named_in_capitals", case=RecognizerCase(examples={"staff id": EXAMPLES["STAFF_ID"]}, counterexamples=NEAR))
class NamesInSmallLetters(Staff):
    entities = ("staff id",)

    def finding(self, text, start, end):
        return Finding("staff id", start, end, self.score)


@caught_by("its_entities_are_named_in_capitals")
class NamesOneTwice(Staff):
    entities = ("STAFF_ID", "STAFF_ID")


@caught_by("its_examples_are_found_where_they_stand")
class MissesSome(Staff):
    """Counts what stands before in bytes, as an engine over UTF-8 does, and so misses the second example only."""

    def scan(self, texts):
        return [[each for each in found if text.isascii() or "badge" in text] for text, found in zip(texts, super().scan(texts), strict=True)]


@caught_by("its_examples_are_found_where_they_stand", case=RecognizerCase(counterexamples=NEAR))
class HasNoExample(Staff):
    pass


@caught_by("its_counterexamples_are_left_alone")
class TakesLongerNumbers(Staff):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.pattern = re.compile(rf"(?<![0-9A-Za-z]){re.escape(self.letter)}-[0-9]{{6}}")


@caught_by("its_counterexamples_are_left_alone", case=RecognizerCase(examples=EXAMPLES))
class HasNoCounterexample(Staff):
    pass


@caught_by("findings_are_sound")
class CountsInPercent(Staff):
    score = 80


@caught_by("findings_are_sound")
class FindsWhatItDoesNotDeclare(Staff):
    def scan(self, texts):
        found = super().scan(texts)
        return [
            [*each, *(Finding("BADGE", m.start(), m.end(), 0.4) for m in re.finditer("badge", text))] for text, each in zip(texts, found, strict=True)
        ]


@caught_by("evidence_never_quotes_the_value")
class QuotesWhatItFound(Staff):
    def finding(self, text, start, end):
        return Finding("STAFF_ID", start, end, self.score, f"matched {text[start:end]}")


@caught_by("evidence_never_quotes_the_value")
class QuotesTheDigits(Staff):
    def finding(self, text, start, end):
        return Finding("STAFF_ID", start, end, self.score, f"number {text[end - 6 : end]}")


@caught_by("each_text_has_its_own_findings")
class NeedsAText(Staff):
    def scan(self, texts):
        texts[0]
        return super().scan(texts)


@caught_by("what_stands_before_moves_no_finding")
class CountsUtf16(Staff):
    """Counts what lies beyond the first plane as two, as Java and JavaScript do."""

    def finding(self, text, start, end):
        more = sum(ord(c) > 0xFFFF for c in text[:start]) if start < 1000 else 0
        return Finding("STAFF_ID", min(start + more, len(text) - 1), min(end + more, len(text)), self.score)


@caught_by("a_text_is_read_alike_alone_and_among_others")
class FindsEachTextOnce(Staff):
    """Thinks that who repeats a text in one batch wants its findings once."""

    def scan(self, texts):
        return [[] if at and texts[at - 1] == text else each for at, (text, each) in enumerate(zip(texts, super().scan(texts), strict=True))]


@caught_by("threads_may_scan_at_once")
class KeepsTheTextsOnItself(Staff):
    def scan(self, texts):
        self.texts = texts
        time.sleep(0.002)
        return super().scan(self.texts)


@caught_by("odd_text_is_read")
class EncodesStrictly(Staff):
    def scan(self, texts):
        for text in texts:
            text.encode()
        return super().scan(texts)


@caught_by("odd_text_is_read")
class FallsOverControlCharacters(Staff):
    def scan(self, texts):
        if any("\x00" in text for text in texts):
            raise ValueError("embedded null character")
        return super().scan(texts)


@caught_by("time_grows_with_the_text")
class LooksBackFromEveryPlace(Staff):
    """Reads the whole run of digits and spaces from each place in it."""

    slow = re.compile(r"[0-9 ]+x")

    def scan(self, texts):
        for text in texts:
            self.slow.search(text)
        return super().scan(texts)


@caught_by("a_setting_that_a_recognizer_does_not_know_is_refused")
class TakesAnySetting(Staff):
    def __init__(self, **settings):
        super().__init__(**{name: value for name, value in settings.items() if name == "letter"})


@caught_by("a_setting_that_a_recognizer_does_not_know_is_refused")
class LetsPydanticSpeak(Staff):
    def __init__(self, **settings):
        Settings(**settings)
        super().__init__(**settings)


@caught_by("scanning_leaves_global_state_as_it_was")
class SeedsEverybody(Staff):
    def scan(self, texts):
        random.seed(0)
        return super().scan(texts)


@caught_by("what_it_finds_is_masked_in_a_workspace")
class FindsNothingWhenWatched(Staff):
    """Knows when a workspace asks it."""

    def scan(self, texts):
        return [[] for _ in texts] if inside_call.get() else super().scan(texts)
