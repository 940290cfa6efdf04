"""Findings inside longer texts, replaced by what the policy says for their entities: the same token as in a column of their own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa

from affidavit.errors import InvalidInput, UsageError
from affidavit.interfaces.masking import Finding, MaskContext, Operator, Recognizer
from affidavit.interfaces.schema import Field, FieldType
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.operators.catalogue import make_operator
from affidavit_governance.masking.recognizers.base import DEFAULT_THRESHOLD, NO_THRESHOLDS
from affidavit_governance.masking.recognizers.overlaps import cover, resolve
from affidavit_governance.masking.text import scan_values
from affidavit_governance.masking.tools import Tools, tools_for

_ROUNDS = 4


def placeholder(entity: str) -> str:
    """What stands for a finding that no operator gives a token."""
    return f"<{entity}>"


@dataclass(frozen=True, slots=True)
class Spans:
    """What becomes of findings inside texts.

    An operator that fits spans gives the finding's token; ``keep`` leaves it; any other, and one that needs to know whose the row is,
    leaves the entity's name in angle brackets.

    Attributes
    ----------
    operators
        By entity.
    default
        For all other entities; None leaves their names.
    context
        Key and vault; None where no operator is called.
    """

    operators: Mapping[str, Operator] = field(default_factory=dict)
    default: Operator | None = None
    context: MaskContext | None = None

    @classmethod
    def of(cls, policy: MaskingPolicy, tools: Tools, key: bytes) -> Spans:
        """What a policy's ``entities`` and ``default`` lines say."""
        made = {
            entity: make_operator(operator.name, operator.settings, where=f"Policy line 'masking.entities.{entity}'", known=tools.operators)
            for entity, operator in policy.entities.items()
        }
        default = make_operator(policy.default.name, policy.default.settings, where="Policy line 'masking.default'", known=tools.operators)
        return cls(made, default, tools.context(key))

    def keeps(self, entity: str) -> bool:
        """Whether the policy leaves findings of this entity as they are."""
        operator = self.operators.get(entity, self.default)
        return operator is not None and operator.name == "keep"

    def settle(self, findings: Iterable[Finding]) -> list[Finding]:
        """What is to be replaced, overlapping findings joined. One that stays hides what lies inside it and is no surer, and nothing else."""
        found = list(findings)
        kept = resolve(finding for finding in found if self.keeps(finding.entity))
        if not kept:
            return cover(found)
        starts = [finding.start for finding in kept]

        def hidden(finding: Finding) -> bool:
            at = bisect_right(starts, finding.start) - 1
            return at >= 0 and finding.end <= kept[at].end and finding.score <= kept[at].score

        return cover(finding for finding in found if not self.keeps(finding.entity) and not hidden(finding))

    @property
    def tokens(self) -> bool:
        """Whether some entity gets tokens, which a second search might take for values."""
        return any(_fits(operator) for operator in (*self.operators.values(), self.default))

    def replacements(self, entity: str, originals: Sequence[str]) -> list[str]:
        """What stands in the place of each original of one entity."""
        operator = self.operators.get(entity, self.default)
        if operator is None or self.context is None or not _fits(operator):
            return [placeholder(entity)] * len(originals)
        tokens = self._apply(operator, entity, originals)
        return [placeholder(entity) if token is None else token for token in tokens]

    def _apply(self, operator: Operator, entity: str, originals: Sequence[str]) -> list[str | None]:
        assert self.context is not None
        try:
            column = pa.chunked_array([pa.array(originals, pa.string())])
            masked = operator.apply(column, Field(entity, FieldType.TEXT, entity=entity), self.context)
        except (InvalidInput, UnicodeEncodeError):
            # A value that the operator cannot take: it alone gets the entity's name. Halving finds it with few calls.
            half = len(originals) // 2
            return [*self._apply(operator, entity, originals[:half]), *self._apply(operator, entity, originals[half:])] if half else [None]
        if masked is None:
            return [None] * len(originals)
        tokens: list[str | None] = masked.cast(pa.string()).to_pylist()
        return tokens


PLACEHOLDERS = Spans()
"""Every finding becomes its entity's name."""


def _fits(operator: Operator | None) -> bool:
    return operator is not None and operator.spans and operator.subject is None


class _Mark(NamedTuple):
    """A placeholder in a text under work; `original` is None where it swallowed others."""

    start: int
    end: int
    entity: str
    original: str | None


class _Work:
    """A text with placeholders in the place of what was found so far."""

    __slots__ = ("marks", "shown")

    def __init__(self, text: str) -> None:
        self.shown = text
        self.marks: list[_Mark] = []

    def replace(self, findings: Iterable[Finding]) -> None:
        """Put a placeholder in the place of each finding. One that touches others, or older placeholders, swallows them."""
        shown = self.shown
        marks = [_Mark(f.start, f.end, f.entity, shown[f.start : f.end]) for f in findings]
        if self.marks:
            marks = _merged(sorted([*self.marks, *marks], key=itemgetter(0)))
        pieces: list[str] = []
        kept: list[_Mark] = []
        done, size = 0, 0
        for start, end, entity, original in marks:
            name = placeholder(entity)
            pieces += (shown[done:start], name)
            at = size + start - done
            size = at + len(name)
            kept.append(_Mark(at, size, entity, original))
            done = end
        self.shown = "".join(pieces) + shown[done:]
        self.marks = kept

    def give_up(self, entity: str) -> None:
        """Let one placeholder stand for the whole text."""
        self.shown = placeholder(entity)
        self.marks = [_Mark(0, len(self.shown), entity, None)]

    def finished(self, tokens: Mapping[tuple[str, str], str]) -> str:
        """The text with tokens for placeholders."""
        pieces: list[str] = []
        done = 0
        for start, end, entity, original in self.marks:
            token = placeholder(entity) if original is None else tokens[entity, original]
            pieces += (self.shown[done:start], token)
            done = end
        return "".join(pieces) + self.shown[done:]


def _merged(marks: Iterable[_Mark]) -> list[_Mark]:
    merged: list[_Mark] = []
    for mark in marks:
        if merged and mark.start < merged[-1].end:
            merged[-1] = _Mark(merged[-1].start, max(mark.end, merged[-1].end), merged[-1].entity, None)
        else:
            merged.append(mark)
    return merged


def mask_values(
    values: Sequence[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    thresholds: Mapping[str, float] = NO_THRESHOLDS,
    recognizers: Sequence[Recognizer] | None = None,
    hints: frozenset[str] = frozenset(),
    spans: Spans = PLACEHOLDERS,
    found: list[list[Finding]] | None = None,
) -> tuple[list[str], list[list[Finding]]]:
    """Values with their personal data replaced, and what was found where in the originals.

    What is left is looked at again with placeholders in the place of the findings, because a number may show only once its neighbour is
    gone; a value that still shows something after a few rounds is replaced whole. Tokens are put in last, all of one entity in one call,
    so that no round looks at them.

    Parameters
    ----------
    found
        What a first search found and `Spans.settle` left, where it was made already.
    """
    work: dict[int, _Work] = {}
    texts = list(values)
    first: list[list[Finding]] = []
    pending = list(range(len(texts)))
    for attempt in range(_ROUNDS):
        if attempt or found is None:
            found = scan_values(
                [texts[i] for i in pending], threshold=threshold, thresholds=thresholds, recognizers=recognizers, hints=hints, settle=spans.settle
            )
        first = first if attempt else found
        changed = [(i, each) for i, each in zip(pending, found, strict=True) if each]
        for i, each in changed:
            if i not in work:
                work[i] = _Work(texts[i])
            work[i].replace(each)
            texts[i] = work[i].shown
        pending = [i for i, _ in changed]
        if not pending:
            break
    else:
        for i, each in changed:
            work[i].give_up(each[0].entity)
            texts[i] = work[i].shown
    if not spans.tokens:
        return texts, first
    tokens = _tokens(work.values(), spans)
    for i, each_work in work.items():
        texts[i] = each_work.finished(tokens)
    return texts, first


def _tokens(work: Iterable[_Work], spans: Spans) -> dict[tuple[str, str], str]:
    originals: dict[str, dict[str, None]] = {}
    for text in work:
        for mark in text.marks:
            if mark.original is not None:
                originals.setdefault(mark.entity, {})[mark.original] = None
    return {
        (entity, original): token
        for entity, values in originals.items()
        for original, token in zip(values, spans.replacements(entity, list(values)), strict=True)
    }


def mask_text(
    text: str,
    *,
    policy: MaskingPolicy | None = None,
    key: bytes | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    recognizers: Sequence[Recognizer] | None = None,
    tools: Tools | None = None,
) -> tuple[str, list[Finding]]:
    """A text with its personal data replaced, and what was found where in the original.

    Parameters
    ----------
    policy
        Says what replaces each entity, what counts, and what to look with (`threshold` and `recognizers` then say nothing). Without one
        findings become placeholders such as ``<EMAIL_ADDRESS>``.
    key
        The key of pseudonyms and tokens, 16 to 64 bytes, where the policy asks for any.
    tools
        Of a workspace; default: what the policy asks for.

    Raises
    ------
    UsageError
        `text` is no string, the policy names an unknown operator, or its tokens need a key.
    """
    if not isinstance(text, str):
        raise UsageError(f"mask_text takes a string, not {type(text).__name__}.")
    if policy is None:
        masked, found = mask_values([text], threshold=threshold, recognizers=recognizers)
        return masked[0], found[0]
    if not policy.detect:
        return text, []
    used = tools or tools_for(policy)
    spans = Spans.of(policy, used, check_key(key) if key is not None else b"")
    if key is None and spans.tokens:
        raise UsageError("The policy puts tokens in the place of personal data, and there is no key for them.", hint="Pass key=, 16 to 64 bytes.")
    masked, found = mask_values([text], threshold=policy.threshold, thresholds=policy.thresholds, recognizers=used.recognizers, spans=spans)
    return masked[0], found[0]


def check_key(key: bytes) -> bytes:
    """The key itself, where it has 16 to 64 bytes. Raises UsageError otherwise."""
    if not 16 <= len(key) <= 64:
        raise UsageError(f"A pseudonym key has 16 to 64 bytes, this one has {len(key)}.")
    return key
