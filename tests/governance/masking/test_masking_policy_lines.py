"""The policy's lines about finding: thresholds by entity, recognizers by name, and patterns of one's own."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import InvalidInput, MissingExtra, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.masking import Finding
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking import mask_table, mask_text
from affidavit_governance.masking.recognizers.catalogue import patterns
from affidavit_governance.masking.recognizers.contact import Email
from affidavit_governance.masking.recognizers.patterns import Patterns
from affidavit_governance.masking.tools import tools_for

KEY = bytes(range(32))
EMAIL, IP = "ann.lee@example.com", "192.0.2.235"


def policy(**section: Any) -> MaskingPolicy:
    return MaskingPolicy.model_validate(section)


def masked(texts: list[str], rule: MaskingPolicy) -> list[str]:
    return mask_table(Dataset.from_arrow(pa.table({"note": texts, "n": list(range(len(texts)))})), rule, KEY)[0].to_list("note")  # type: ignore[no-any-return]


def test_an_entitys_threshold_takes_the_place_of_the_general_one() -> None:
    texts = [f"{EMAIL} came here from {IP} today", "nothing at all to be seen in here"]
    assert masked(texts, policy(thresholds={"IP_ADDRESS": 1.0}))[0] == f"<EMAIL_ADDRESS> came here from {IP} today"
    assert masked(texts, policy(threshold=1.0, thresholds={"IP_ADDRESS": 0.1}))[0] == f"{EMAIL} came here from <IP_ADDRESS> today"
    assert mask_text(texts[0], policy=policy(thresholds={"EMAIL_ADDRESS": 1.0}))[0] == f"{EMAIL} came here from <IP_ADDRESS> today"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"thresholds": {"EMAIL": 0.5}}, r"'masking\.thresholds\.EMAIL': no recognizer finds this entity.*EMAIL_ADDRESS"),
        ({"recognizers": {"pattern": {}}}, r"'masking\.recognizers\.pattern': There is no recognizer 'pattern'\. Did you mean 'patterns'"),
        ({"recognizers": {"patterns": {}}}, r"'masking\.recognizers\.patterns': Recognizer 'patterns' has no pattern"),
        ({"recognizers": {"EMAIL_ADDRESS": {"strict": True}}}, r"'masking\.recognizers\.EMAIL_ADDRESS': its settings cannot be used"),
        ({"recognizers": {"patterns": {"X_ID": "(a)\\1"}}}, "X_ID.*no regular expression of RE2"),
        ({"recognizers": {"patterns": {"X_ID": "(?<=a)b"}}}, "X_ID.*no regular expression of RE2"),
        ({"recognizers": {"patterns": {"X_ID": "("}}}, "X_ID.*no regular expression of RE2"),
        ({"recognizers": {"patterns": {"X_ID": "a*"}}}, "X_ID.*matches the empty text"),
        ({"recognizers": {"patterns": {"X_ID": {"pattern": "a", "skore": 1}}}}, "X_ID.*skore"),
        ({"recognizers": {"patterns": {"X_ID": {"pattern": "a", "score": 2}}}}, "X_ID.*score"),
        ({"recognizers": {"patterns": {"X_ID": 3}}}, "X_ID"),
        ({"recognizers": {"patterns": {"x id": "a"}}}, "capital letters"),
    ],
)
def test_a_line_that_cannot_be_followed_is_refused_by_name(section: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        masked(["text"], policy(**section))


def test_a_pattern_of_the_policy_is_found_in_every_column_and_context_speaks_for_it() -> None:
    rule = policy(recognizers={"patterns": {"STAFF_ID": {"pattern": "E-?[0-9]{6}", "score": 0.4, "context": ["badge"]}}})
    assert masked(["badge E-123456 was lost by him", "order E-123456 was sent to him"], rule) == [
        "badge <STAFF_ID> was lost by him",
        "order E-123456 was sent to him",
    ]
    sure = policy(recognizers={"patterns": {"STAFF_ID": "E-?[0-9]{6}"}})
    table = Dataset.from_arrow(pa.table({"kind": ["a", "E-123456", "b"] * 20, "whole": [f"E{i:06d}" for i in range(60)]}))
    out, report = mask_table(table, sure, KEY)
    assert out.to_list("kind")[:3] == ["a", "<STAFF_ID>", "b"]
    assert out.to_list("whole")[0] == "[REDACTED]"
    assert report.columns["whole"]["entity"] == "STAFF_ID"
    assert mask_text("Ｅ-１２３４５６ here", policy=sure)[0] == "<STAFF_ID> here"


@given(st.lists(st.text(alphabet="ab1\ufdd0\ufdd1\ud800é😀\x1e\n", max_size=12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_matches_stand_where_pythons_own_engine_finds_them(texts: list[str]) -> None:
    found = Patterns(AB_ID="a+b?|1").scan(texts)
    for text, findings in zip(texts, found, strict=True):
        assert [(f.start, f.end) for f in findings] == [match.span() for match in re.finditer("a+b?|1", text)]


def test_an_expression_that_would_backtrack_for_ever_elsewhere_takes_no_time() -> None:
    evil = Patterns(EVIL_ID="(a+)+b|(x|x)*y")
    text = "a" * 200_000 + "c" + "x" * 200_000
    before = time.process_time()
    assert evil.scan([text]) == [[]]
    assert time.process_time() - before < 60, "Python's engine would not come back"


def test_the_policy_pages_patterns_are_a_policy_that_finds_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    example = next(block for block in re.findall(r"```yaml\n(.*?)```", page, re.S) if "patterns:" in block)
    rule = MaskingPolicy.model_validate(yaml.safe_load(example)["masking"])
    token = mask_text("E-123456 badge", policy=rule, key=KEY)[0].split()[0]
    assert len(token) == 40
    assert mask_text("see AZ 12/24, E-123456 alone", policy=rule, key=KEY)[0] == "see <FILE_NUMBER>, E-123456 alone"


class Names:
    """What a plugin may bring."""

    entities = ("PERSON",)

    def __init__(self, *, names: Sequence[str]) -> None:
        self._names = names

    def scan(self, texts: Sequence[str]) -> list[list[Finding]]:
        return [[Finding("PERSON", text.find(n), text.find(n) + len(n), 0.9) for n in self._names if n in text] for text in texts]


class Broken:
    def __init__(self) -> None:
        raise InvalidInput("Recognizer 'broken': its model cannot be read.", hint="Check the folder.")


def registry(**recognizers: Any) -> Any:
    def get(kind: str, name: str) -> Any:
        if name == "heavy":
            raise MissingExtra("Recognizer 'heavy'", extra="text", library="transformers")
        return {**recognizers}[name]

    return SimpleNamespace(get=get, names=lambda kind: ())


def test_only_named_recognizers_are_made_with_their_settings_and_the_bundled_ones_are_always_there() -> None:
    known = registry(names=Names, broken=Broken, other=Email)
    assert tools_for(policy(), known).recognizers == patterns()
    tools = tools_for(policy(recognizers={"names": {"names": ["Ann"]}}), known)
    assert tools.recognizers[:-1] == patterns()
    assert "PERSON" in tools.entities
    assert mask_text("Ann is here", policy=policy(), tools=tools)[0] == "<PERSON> is here"
    with pytest.raises(InvalidInput, match=r"'masking\.recognizers\.broken': Recognizer 'broken'"):
        tools_for(policy(recognizers={"broken": {}}), known)
    with pytest.raises(UsageError, match=r"'masking\.recognizers\.names'"):
        tools_for(policy(recognizers={"names": {"nmes": []}}), known)
    with pytest.raises(MissingExtra):
        tools_for(policy(recognizers={"heavy": {}}), known)
    again = tools_for(policy(recognizers={"other": {}}), known)
    assert sum(isinstance(each, Email) for each in again.recognizers) == 1
