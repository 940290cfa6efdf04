"""Checks of a recognizer as such: that it finds what it says, where it stands, and nothing else, in time that grows with the text."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

from affidavit.errors import UsageError
from affidavit.interfaces.masking import Finding
from affidavit.policy import MaskingPolicy
from affidavit.testing.checks import CheckFailed, check
from affidavit.testing.kinds.recognizer.subject import ENTITY, RecognizerSubject
from affidavit.testing.process_state import left_alone
from affidavit.testing.report import Tier

ODD = (
    "",
    " \t\r\n\u2028\u3000",
    "a\x00b\x00",
    "\x1e\x1f\x1b[0m",
    "\ud83d alone \udfff",
    "\ufeff\ufdd0\ufdd1\ufffe",
    "\u202egnorw syaw eht \u202c ١٢٣ עברית",
    "e" + "\u0301" * 500,
    "𝟏𝟐𝟑 １２３ ㊙ ﷽",
    "x" * 5000,
    "<" * 500 + "@" * 500 + "0" * 500,
)
"""What turns up in columns and prompts."""

BEFORE = ("张伟在上海。", "😀👩‍👩‍👧🇩🇪 ", "ＡＢＣ，１２３。 ", "e\u0301 é ", "שלום \u202eabc\u202c ")
"""What counts otherwise in characters, bytes and UTF-16 units. None of it is said to be personal."""

UNITS = ("a", "1", "1 ", "a@", "a.", "-", " ", "\n", "号", "(", "0x", ": ")
LONGEST = 100_000
SHORTEST = 3_125
DOUBLINGS, STEEP, SECONDS = 3, 27.0, 0.2
"""Time grows too fast where eight times the text takes 27 times as long and a fifth of a second. The square of the length would be 64 times,
n log n is 10. Three doublings are judged as one, because a busy machine makes one of them look flat now and then."""
EVEN = 2.4
"""Where two doublings take no more than 2.4 times as long each, time grows with the text."""

PATIENCE = 25.0
"""Seconds after which no further text is begun, so that a slow recognizer on a busy machine is not taken for one that hangs."""

SCORES_APART = 1e-3
"""How far scores of one finding may lie apart: a model's float32 sums depend on the batch."""


@check("recognizer", Tier.API)
def recognizer_is_what_it_registered(subject: RecognizerSubject) -> None:
    """What is made with the settings of its case has `entities`, an attribute or a property, and a method `scan`."""
    missing = [name for name in ("entities", "scan") if not hasattr(subject.made, name)]
    if missing:
        raise CheckFailed(f"it has no {', '.join(missing)}.")
    if callable(subject.made.entities) or not callable(subject.made.scan):
        raise CheckFailed("'entities' must be an attribute or a property, and 'scan' a method.")


@check("recognizer", Tier.API)
def its_entities_are_named_in_capitals(subject: RecognizerSubject) -> None:
    """`entities` names at least one, each once, in capital letters, digits and underscores."""
    entities = list(subject.entities)
    if not entities or len(set(entities)) < len(entities):
        raise CheckFailed("'entities' must name what it finds, each once.")
    odd = [entity for entity in entities if not isinstance(entity, str) or not ENTITY.fullmatch(entity)]
    if odd:
        raise CheckFailed(f"the entities {', '.join(map(str, odd))} are not in capital letters, digits and underscores, such as STAFF_ID.")


@check("recognizer", Tier.API)
def its_examples_are_found_where_they_stand(subject: RecognizerSubject) -> None:
    """It finds the value of each example exactly where it stands; each entity that it declares has an example."""
    without = [entity for entity in subject.entities if not subject.case.examples.get(entity)]
    if without:
        say = "bring a RecognizerCase whose 'examples' have for each entity a text and the value in it"
        raise CheckFailed(f"the kit has no example of {', '.join(without)}: {say}.")
    _must_find(subject, [(example.text, example.entity, example.start, example.end) for example in subject.examples], "")


@check("recognizer", Tier.API)
def its_counterexamples_are_left_alone(subject: RecognizerSubject) -> None:
    """It finds nothing in its counterexamples with a score from which a policy masks by default."""
    if not subject.case.counterexamples:
        raise CheckFailed("the kit has no counterexample: bring a text that looks like it and is none, such as a wrong check digit.")
    enough = MaskingPolicy().threshold
    for number, found in enumerate(subject.scan(subject.case.counterexamples), 1):
        sure = [finding for finding in found if finding.score >= enough]
        if sure:
            raise CheckFailed(f"counterexample {number} is taken for {sure[0].entity} with the score {sure[0].score:g}, and would be masked.")


@check("recognizer", Tier.API)
def findings_are_sound(subject: RecognizerSubject) -> None:
    """A finding lies within its text, odd ones too, is of a declared entity, is not empty, and has a score between 0 and 1."""
    entities = set(subject.entities)
    for text in [*subject.texts, *_odd(subject)]:
        found: list[Finding] = []
        with suppress(Exception):  # another check says that nothing is raised
            found = subject.scan([text])[0]
        why = next((why for finding in found if (why := _unsound(finding, text, entities))), None)
        if why:
            raise CheckFailed(f"in the text {text[:24]!a} a finding {why}.")


@check("recognizer", Tier.API)
def evidence_never_quotes_the_value(subject: RecognizerSubject) -> None:
    """The evidence of a finding, which goes into reports, holds nothing of what was found."""
    for text, findings in zip(subject.texts, subject.scan(subject.texts), strict=True):
        for finding in findings:
            for part in (text[finding.start : finding.end], *_parts(text[finding.start : finding.end])):
                if len(part) > 1 and part.casefold() in finding.evidence.casefold():
                    raise CheckFailed(f"the evidence of {finding.entity} quotes what was found: say which check passed, never the value.")


@check("recognizer", Tier.API)
def each_text_has_its_own_findings(subject: RecognizerSubject) -> None:
    """`scan` gives one list for each text in their order: none for no texts, an empty one for an empty text."""
    if len(subject.made.scan([])) != 0:
        raise CheckFailed("no texts must give no lists.")
    example = subject.examples[0]
    found = subject.scan(["", example.text, "", "", example.text])
    if found[0] or found[2] or found[3] or not found[1] or not found[4]:
        raise CheckFailed("findings stand in the list of another text, or an empty text has some: give one list for each text, in their order.")


@check("recognizer", Tier.API)
def what_stands_before_moves_no_finding(subject: RecognizerSubject) -> None:
    """Behind Chinese, emoji, full-width letters and other marks the examples are found where they stand, counted in characters."""
    plain = subject.scan([each.text for each in subject.examples])
    known = [each for each, found in zip(subject.examples, plain, strict=True) if any((f.start, f.end) == (each.start, each.end) for f in found)]
    for before in BEFORE:
        moved = len(before) + 1
        wanted = [(f"{before}\n{each.text}", each.entity, each.start + moved, each.end + moved) for each in known]
        _must_find(subject, wanted, f" behind {before!r}")


@check("recognizer", Tier.API)
def a_text_is_read_alike_alone_and_among_others(subject: RecognizerSubject) -> None:
    """A text has the same findings alone, in a batch, in any order and a second time."""
    texts = subject.texts
    alone = [subject.scan([text])[0] for text in texts]
    twice = subject.scan([text for text in texts for _ in range(2)])
    for what, found in (
        ("in a batch", subject.scan(texts)),
        ("in another order", subject.scan(texts[::-1])[::-1]),
        ("before itself", twice[::2]),
        ("behind itself", twice[1::2]),
        ("a second time", [subject.scan([text])[0] for text in texts]),
    ):
        if not all(map(_alike, alone, found)):
            raise CheckFailed(f"a text has other findings {what} than alone: let none depend on another text, or on what was read before.")


@check("recognizer", Tier.API)
def threads_may_scan_at_once(subject: RecognizerSubject) -> None:
    """Four threads that scan different texts with one recognizer get the findings that each gets alone."""
    texts = subject.texts
    parts = [texts[start:] + texts[:start] for start in range(4)]
    alone = [subject.scan(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for expected, found in zip(alone, pool.map(subject.scan, parts), strict=True):
                if not all(map(_alike, expected, found)):
                    raise CheckFailed("threads that scan at once disturb each other: keep nothing of a call on self.")


@check("recognizer", Tier.API)
def odd_text_is_read(subject: RecognizerSubject) -> None:
    """NUL, control characters, halves of surrogate pairs, right-to-left marks and very long words raise nothing."""
    for text in _odd(subject):
        try:
            subject.scan([text])
        except CheckFailed:
            raise
        except Exception as error:
            raise CheckFailed(f"the text {text[:24]!a} raised {type(error).__name__}: data hold anything, so read what there is.") from error


@check("recognizer", Tier.API)
def time_grows_with_the_text(subject: RecognizerSubject) -> None:
    """Repetitive texts of up to 100,000 characters do not take time that grows with the square of their length."""
    begin = time.monotonic()
    for what, unit in _units(subject):
        if time.monotonic() - begin > PATIENCE:
            return
        spent: list[float] = []
        length = SHORTEST
        while length <= LONGEST:
            spent.append(_spent(subject, unit, length))
            if len(spent) > DOUBLINGS and spent[-1] >= max(SECONDS, STEEP * spent[-1 - DOUBLINGS]):
                say = f"{length:,} characters take {spent[-1] / spent[-2]:.1f} times as long as half of them, {spent[-1]:.1f} s"
                raise CheckFailed(f"time grows faster than the text: of {what}, repeated, {say}. Bound what a pattern repeats, or use an automaton.")
            even = sum(longer <= EVEN * shorter for shorter, longer in pairwise(spent))
            if even >= 2 or spent[-1] * (LONGEST / length) ** 2 < SECONDS:
                break  # as slow as the text is long, or too quick to become slow
            length *= 2


@check("recognizer", Tier.API)
def a_setting_that_a_recognizer_does_not_know_is_refused(subject: RecognizerSubject) -> None:
    """A setting that it does not take raises UsageError, or TypeError where its class takes none, so that a typo is no silent default."""
    try:
        subject.make(surely_no_such_setting=1)
    except (UsageError, TypeError):  # masking makes a UsageError of what Python says of an unknown keyword
        return
    except Exception as error:
        raise CheckFailed(f"an unknown setting raised {type(error).__name__}: use affidavit.interfaces.masking.read_settings.") from error
    raise CheckFailed("an unknown setting was accepted: use affidavit.interfaces.masking.read_settings.")


@check("recognizer", Tier.API)
def scanning_leaves_global_state_as_it_was(subject: RecognizerSubject) -> None:
    """Making one and scanning leave random generators, the environment, the working folder, logging and the SDK alone."""
    subject.scan(subject.texts)  # libraries that it imports at first use may set themselves up
    with left_alone() as changed:
        subject.make().scan(subject.texts)
    if changed:
        raise CheckFailed(f"it changed {', '.join(changed)} of the whole process: use objects of its own, or put things back.")


def _odd(subject: RecognizerSubject) -> list[str]:
    """Odd texts, alone and behind some of its case."""
    return [*ODD, *(f"{text}{odd}" for odd in ODD[2:7] for text in subject.texts[:2])]


def _must_find(subject: RecognizerSubject, wanted: Sequence[tuple[str, str, int, int]], where: str) -> None:
    for (_, entity, start, end), found in zip(wanted, subject.scan([text for text, *_ in wanted]), strict=True):
        if not any((finding.entity, finding.start, finding.end) == (entity, start, end) for finding in found):
            near = [f"{finding.entity} from {finding.start} to {finding.end}" for finding in found]
            raise CheckFailed(f"an example of {entity}{where} stands from {start} to {end}, end exclusive; found: {', '.join(near) or 'nothing'}.")


def _unsound(finding: Finding, text: str, entities: set[str]) -> str | None:
    if not isinstance(finding, Finding):
        return f"is of type {type(finding).__name__}, not a Finding"
    if finding.entity not in entities:
        return f"is of the entity {finding.entity}, which 'entities' does not name"
    if not (isinstance(finding.start, int) and isinstance(finding.end, int) and 0 <= finding.start < finding.end <= len(text)):
        return f"goes from {finding.start} to {finding.end} in a text of {len(text)} characters"
    if not (isinstance(finding.score, (int, float)) and 0 <= finding.score <= 1):
        return f"has the score {finding.score}, which is not between 0 and 1"
    return None


def _parts(value: str) -> Iterator[str]:
    """What of a value would give it away: long runs of letters and digits, and all its digits together."""
    yield from re.findall(r"[^\W_]{6,}|[0-9]{4,}", value)
    digits = re.sub(r"\D", "", value)
    if len(digits) >= 6:
        yield digits


def _alike(first: Sequence[Finding], second: Sequence[Finding]) -> bool:
    return len(first) == len(second) and all(
        (a.entity, a.start, a.end) == (b.entity, b.start, b.end) and abs(a.score - b.score) <= SCORES_APART
        for a, b in zip(first, second, strict=True)
    )


def _units(subject: RecognizerSubject) -> Iterator[tuple[str, str]]:
    """What to repeat: what trips regular expressions up, and what its own examples begin with."""
    yield from ((repr(unit), unit) for unit in UNITS)
    given = [(entity, pairs) for entity, pairs in subject.case.examples.items() if pairs]
    for entity, _ in given[:4]:
        example = next(each for each in subject.examples if each.entity == entity)
        yield f"an example of {entity}", f"{example.text}\n"
        yield f"a value of {entity}", example.value
        yield f"the beginning of {entity}", example.value[: max(1, len(example.value) // 2)]


def _spent(subject: RecognizerSubject, unit: str, length: int) -> float:
    """Processor seconds of this thread, so that a busy machine does not count; of two tries the shorter, where the first was long."""
    text = (unit * (length // len(unit) + 1))[:length]
    spent = float("inf")
    for _ in range(2):
        begin = time.thread_time()
        subject.scan([text])
        spent = min(spent, time.thread_time() - begin)
        if spent < SECONDS / 10:
            break
    return spent
