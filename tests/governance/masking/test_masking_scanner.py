"""The engine reads only pieces of a text, and finds what every recognizer finds in the whole of it; prefilters let each finding through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking.prefilter import prefilter
from affidavit_governance.masking.recognizers.base import CELL, DEFAULT_THRESHOLD, PatternRecognizer
from affidavit_governance.masking.recognizers.catalogue import BUNDLED, patterns
from affidavit_governance.masking.recognizers.plain import plain, unusual
from affidavit_governance.masking.recognizers.present import Present
from affidavit_governance.masking.recognizers.scanner import Scanner
from affidavit_governance.masking.text import scan_text

EXAMPLES: dict[str, list[str]] = json.loads((Path(__file__).parent / "recognizer_examples.json").read_text(encoding="utf-8"))
VALUES = sorted({text for texts in EXAMPLES.values() for text in texts})
SCANNER = Scanner(patterns())
EVERY = frozenset(recognizer.entity for recognizer in patterns())

Key = tuple[int, int, str, float, str]


def keyed(findings: Iterable[Finding]) -> list[Key]:
    return sorted((f.start, f.end, f.entity, f.score, f.evidence) for f in findings)


def brute_force(text: str, hints: frozenset[str] = frozenset()) -> list[Key]:
    return keyed(f for r in patterns() for f in r.find(text, hinted=r.entity in hints))


@pytest.mark.parametrize("name", [name for name, _ in BUNDLED])
def test_each_bundled_recognizer_has_examples_in_which_it_finds_something(name: str) -> None:
    recognizer = dict(zip([name for name, _ in BUNDLED], patterns(), strict=True))[name]
    assert EXAMPLES.get(name), f"recognizer_examples.json has no text for {name}"
    threshold = 0.1 if recognizer.needs == "" else DEFAULT_THRESHOLD
    for text in EXAMPLES[name]:
        assert any(f.entity == recognizer.entity and f.score >= threshold for f in SCANNER.find(plain(text))), text


def test_the_catalogue_names_each_recognizer_once_and_by_its_entity() -> None:
    names = [name for name, _ in BUNDLED]
    assert len(set(names)) == len(names)
    for name, recognizer in zip(names, patterns(), strict=True):
        assert name == recognizer.entity or (name.endswith(recognizer.entity) and recognizer.entity in names)


@pytest.mark.parametrize("recognizer", patterns(), ids=lambda r: r.entity)
def test_each_bundled_recognizer_says_where_its_findings_can_be(recognizer: PatternRecognizer) -> None:
    assert recognizer.shape or recognizer.anchors or recognizer.literals or recognizer.beside, (
        "its `find` would read every text, and the prefilter would pass every cell"
    )
    for pattern in (recognizer.shape, *recognizer.anchors, recognizer.needs):
        assert pattern is None or ("(?=" not in pattern and "(?<" not in pattern and "(?!" not in pattern)
    if recognizer.shape:
        named = "".join(re.findall(r"\[[^]]*\]", recognizer.shape))
        assert not re.search(r"[^\x00-\x7f]-[^]]|[^[]-[^\x00-\x7f]", named), "a shape names single characters of other scripts, no ranges"
        bare = re.sub(r"\[[^]]*\]|\{[0-9,]*\}|\\.", "", recognizer.shape)
        assert not re.search(r"[0-9A-Za-z]", bare), "a shape is searched in a text whose digits are all 0 and letters all a"


# Pieces of values put next to each other at random: numbers run into one another, into words and into signs.
filler = st.one_of(
    st.text(max_size=8),
    st.text(alphabet="0123456789 .-/()+@:abzGB年\u3000１２", max_size=20),
    st.sampled_from(
        ["card ", "phone: ", "born ", "身份证", "the 3rd of 12 ", "\n", CELL, "x" * 70, " words between " * 8, "ssn ", "swift ", "postal code "]
    ),
)
value = st.sampled_from(VALUES).flatmap(lambda text: st.just(text) | st.integers(0, len(text)).map(lambda cut: text[:cut]) | st.just(text.upper()))


@given(st.lists(st.one_of(value, filler), max_size=8), st.sets(st.sampled_from(sorted(EVERY))).map(frozenset))
@settings(max_examples=400, deadline=None)
def test_the_engine_finds_what_every_recognizer_finds_in_the_whole_text(parts: list[str], hints: frozenset[str]) -> None:
    text = plain("".join(parts))
    assert keyed(SCANNER.find(text, hints)) == brute_force(text, hints)


@pytest.mark.parametrize("entity", list(EXAMPLES))
def test_the_engine_finds_examples_wherever_they_stand_in_long_texts(entity: str) -> None:
    words = "and then some words "
    for text in EXAMPLES[entity]:
        for before, after in (
            ("", ""),
            (words * 9, words * 9),
            (f"in 1999 {words}", f"{words}12 times"),
            ("x" * 63, "y" * 5),
            ("7 " * 20, " 8" * 20),
        ):
            whole = plain(f"{before}{text}{after}")
            assert keyed(SCANNER.find(whole)) == brute_force(whole), (before, after)


@pytest.mark.parametrize(
    ("entity", "text"),
    [
        ("IP_ADDRESS", "from 1:2:3:4:5:6:7:8 on"),
        ("IP_ADDRESS", "from 64:ff9b:1:2:3:4:192.0.2.33 on"),
        ("IP_ADDRESS", "from fe80::1 on"),
        ("US_DRIVER_LICENSE", "DLN A1234567"),
        ("US_DRIVER_LICENSE", "DL# A1234567"),
        ("US_DRIVER_LICENSE", "dl #A1234567"),
        ("US_DRIVER_LICENSE", "DL no. A1234567"),
        ("LICENSE_PLATE", "reg no AB12 CDE"),
        ("LICENSE_PLATE", "Reg.No AB12 CDE"),
        ("LICENSE_PLATE", "reg. nr AB12 CDE"),
        ("LICENSE_PLATE", "regnr AB12 CDE"),
        ("LICENSE_PLATE", "Registration mark AB12 CDE"),
        ("LICENSE_PLATE", "Vehicle reg AB12 CDE"),
        ("PASSWORD", "https://ann:s3cret9@example.org/"),
    ],
)
def test_the_engine_wakes_a_recognizer_for_each_of_its_words_and_forms(entity: str, text: str) -> None:
    for whole in (text, f"{'some words ' * 90}{text}{' and others' * 90}"):
        assert keyed(SCANNER.find(whole)) == brute_force(whole)
        assert entity in {finding.entity for finding in SCANNER.find(whole)}


def test_digits_that_only_look_like_an_identifier_wake_no_recognizer() -> None:
    """Both numbers have the shape of a Chinese credit code with letters behind it, the form of none."""
    windows = SCANNER._by_shape("card 4007070753690781 of mine and 541-714-1388 My car")
    assert {type(SCANNER.recognizers[at]).__name__ for at in windows} == {"CreditCard", "Phone", "UkNhs"}


@pytest.mark.parametrize("text", ["card 4007070753690781 of", "at 2024-01-31 10:20:30", "on 2024-01-31T10:20", "due 1/31/2024.", "ssn 123-45-6789"])
def test_numbers_that_look_like_no_telephone_wake_no_recognizer_of_telephones(text: str) -> None:
    assert "Phone" not in {type(SCANNER.recognizers[at]).__name__ for at in SCANNER._by_shape(text)}


@pytest.mark.parametrize("number", ["4007070753690781", "1234567890123456789", "2024-01-31 10:20", "2024-01-31T10:20:30", "1/31/2024", "123-45-6789"])
@pytest.mark.parametrize("before", ["", "+", "+ ", "+(", "+ (", "(", "x", "_", "ring 555 0123, ", "call 541-714-1388\n"])
@pytest.mark.parametrize("after", ["", " x12", "x12", " ext. 12", ")", "_", " 0123", ", 541-714-1388"])
def test_a_number_that_looks_like_no_telephone_is_read_where_it_may_be_a_part_of_one(number: str, before: str, after: str) -> None:
    text = f"{before}{number}{after} is my telephone"
    assert keyed(SCANNER.find(text)) == brute_force(text)


@pytest.mark.parametrize("gap", range(72, 96))
def test_a_number_that_the_edge_of_a_piece_cuts_off_is_not_taken_for_a_shorter_one(gap: int) -> None:
    for text in (f"ssn 123-45-6789{'.' * gap}200907216351390958 sent", f"order 200907216351390958{'.' * (gap - 36)}123-45-6789 is my ssn"):
        assert keyed(SCANNER.find(text)) == brute_force(text)


@pytest.mark.parametrize("short", [0, 1, 2, 3, 4, 5])
def test_a_string_is_found_where_two_blocks_of_a_long_text_meet(short: int) -> None:
    """The triples of a long text are noted block by block, and those that lie across two blocks count too."""
    present = Present(["ghp_"], ["b\u00fcro"])
    for string, expected in (("ghp_", (["ghp_"], [])), ("b\u00fcro", ([], ["b\u00fcro"]))):
        text = "." * ((1 << 16) - short) + string + "." * 10
        assert present(text, text.encode()) == expected
    assert present("." * (1 << 17), b"." * (1 << 17)) == ([], [])


def test_more_strings_than_there_are_numbers_for_triples_are_told_apart() -> None:
    strings = [f"{first}{second}{third}x" for first in "abcdefghijkl" for second in "-_=" for third in "0123456789"]
    present = Present(["X", "=7X", *map(str.upper, strings)], ["\u00e9", *strings])
    for at in range(0, len(strings), 7):
        text = "." * 90 + strings[at].upper() + "..\u00e9" + "." * 90
        exact = [string.upper() for string in ("x", "=7x", *strings) if string.upper() in text]
        assert present(text, text.encode().lower()) == (exact, ["\u00e9", strings[at]])


def passes(text: str, pattern: str | None) -> bool:
    """Whether Arrow's engine lets a cell through."""
    return pattern is None or pc.match_substring_regex(pa.array([text]), f"{pattern}|{unusual()}")[0].as_py()


@given(st.lists(st.one_of(value, filler), max_size=4), st.sets(st.sampled_from(sorted(EVERY)), max_size=3).map(frozenset))
@settings(max_examples=300, deadline=None)
def test_the_prefilter_lets_every_cell_through_in_which_something_is_found(parts: list[str], hints: frozenset[str]) -> None:
    text = "".join(parts).encode(errors="ignore").decode()
    if any(score >= DEFAULT_THRESHOLD for _, _, _, score, _ in brute_force(plain(text), hints)):
        assert passes(text, prefilter(patterns(), hints=hints))


@given(st.lists(st.one_of(value, filler), max_size=4), st.sampled_from([0.05, 0.3]))
@settings(max_examples=200, deadline=None)
def test_a_lower_threshold_widens_the_prefilter(parts: list[str], threshold: float) -> None:
    text = "".join(parts).encode(errors="ignore").decode()
    found = {entity for _, _, entity, score, _ in brute_force(plain(text)) if score >= threshold}
    if found:
        assert passes(text, prefilter(patterns(), threshold=threshold))
        assert passes(text, prefilter(patterns(), thresholds=dict.fromkeys(found, threshold)))


class Year(PatternRecognizer):
    """Its shape names a character of another script."""

    entity: ClassVar[str] = "YEAR"
    shape: ClassVar[str | None] = r"\b[0-9]{4} ?年"
    _year = re.compile(r"[0-9](?<![0-9A-Za-z_][0-9])[0-9]{3} ?年")

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in self._year.finditer(text):
            yield Finding(self.entity, match.start(), match.end(), 0.9, "")


@pytest.mark.parametrize("text", ["她在1990年。", "她在1990 年", "in 1990? 1990年 und 1991年", "1990", "1990月" * 40 + "1990年"])
def test_a_shape_may_name_characters_of_other_scripts(text: str) -> None:
    assert keyed(Scanner([Year()]).find(text)) == keyed(Year().find(text))


class Weak(Year):
    """None of its findings reaches the default threshold."""

    needs: ClassVar[str | None] = ""
    asked = 0

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        self.asked += 1
        for match in self._year.finditer(text):
            yield Finding(self.entity, match.start(), match.end(), 0.7 if hinted else 0.4, "")


def test_a_recognizer_all_of_whose_findings_are_weak_is_asked_where_they_count() -> None:
    weak, text = Weak(), "她在1990年。"
    assert scan_text(text, recognizers=[weak]) == [] == scan_text(text, recognizers=[weak], thresholds={"OTHER": 0.9})
    assert weak.asked == 0
    found = Finding("YEAR", 2, 7, 0.4, "")
    assert scan_text(text, recognizers=[weak], threshold=0.3) == [found] == scan_text(text, recognizers=[weak], thresholds={"YEAR": 0.3})
    assert scan_text(text, recognizers=[weak], hints=frozenset({"YEAR"})) == [Finding("YEAR", 2, 7, 0.7, "")]


class Naive(PatternRecognizer):
    """Says nothing about where its findings can be."""

    entity: ClassVar[str] = "WORD"

    def find(self, text: str, *, hinted: bool = False) -> Iterator[Finding]:
        for match in re.finditer("secret", text):
            yield Finding(self.entity, match.start(), match.end(), 0.9, "hinted" if hinted else "")


def test_a_recognizer_that_declares_nothing_reads_everything() -> None:
    used: Sequence[PatternRecognizer] = (*patterns(), Naive())
    assert [f.entity for f in scan_text("a secret word", recognizers=used)] == ["WORD"]
    assert [f.evidence for f in Scanner(used).find("a secret word", {"WORD"})] == ["hinted"]
    assert prefilter(used) is None


def test_the_engine_keeps_few_of_the_many_looks_that_clusters_can_have() -> None:
    scanner = Scanner(patterns())
    for size in range(200):
        list(scanner.find(" ".join(f"{'1' * (i % 50)}-{'x' * (size % 3)}{i}" for i in range(300))))
    assert len(scanner._seen) <= 1 << 14
    assert all(len(looks) <= 64 for looks in scanner._seen)
