"""The Chinese set: how much of its personal data is found, and how much of what is found is personal data, by entity with intervals."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from affidavit.interfaces.masking import Finding
from affidavit_governance.masking import scan_text
from affidavit_governance.masking.text import scan_values

HERE = Path(__file__).parent
SHARED = Path(__file__).resolve().parents[3] / "../shared/data/waimai_10k.csv"
ROWS: list[dict[str, Any]] = json.loads((HERE / "data/pii_zh.json").read_text("utf-8"))
THRESHOLD = 0.6
WANTED = 0.98


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927), 95 %."""
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, z * z / total
    middle, half = share + square / 2, z * math.sqrt(share * (1 - share) / total + square / (4 * total))
    return (middle - half) / (1 + square), (middle + half) / (1 + square)


def same(finding: Finding, span: dict[str, Any]) -> bool:
    """One entity, and half of each covered by the other."""
    shared = min(finding.end, span["end"]) - max(finding.start, span["start"])
    return finding.entity == span["entity"] and 2 * shared >= max(finding.end - finding.start, span["end"] - span["start"])


def tally(rows: Iterable[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Spans found, spans missed and findings that are no span, by entity."""
    found, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        left = scan_text(row["text"], threshold=THRESHOLD)
        for span in row["spans"]:
            match = next((finding for finding in left if same(finding, span)), None)
            (missed if match is None else found)[span["entity"]] += 1
            left = [finding for finding in left if finding is not match]
        false.update(finding.entity for finding in left)
    return found, missed, false


@pytest.fixture(scope="module")
def counts() -> tuple[Counter[str], Counter[str], Counter[str]]:
    return tally(ROWS)


def test_the_file_is_what_its_generator_makes() -> None:
    spec = importlib.util.spec_from_file_location("pii_zh", HERE / "pii_zh.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.make().encode() == module.FILE.read_bytes()
    lines = [line for line in module.TEMPLATES.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert len(set(lines)) == len(lines) >= 150


def test_the_set_is_large_and_has_every_entity_and_texts_without_any() -> None:
    assert len(ROWS) >= 600
    assert sum(not row["spans"] for row in ROWS) >= 150
    each = Counter(span["entity"] for row in ROWS for span in row["spans"])
    assert len(each) == 13 and min(each.values()) >= 15 and each["CN_RESIDENT_ID"] >= 100 and each["PHONE_NUMBER"] >= 200
    for row in ROWS:
        spans = sorted(row["spans"], key=lambda span: span["start"])
        assert all(0 <= span["start"] < span["end"] <= len(row["text"]) for span in spans)
        assert all(a["end"] <= b["start"] for a, b in pairwise(spans))


def test_98_percent_are_found_and_98_percent_of_findings_are_right(counts: tuple[Counter[str], Counter[str], Counter[str]]) -> None:
    right, lost, wrong = (sum(count.values()) for count in counts)
    assert right / (right + lost) >= WANTED
    assert right / (right + wrong) >= WANTED
    assert wilson(right, right + lost)[0] >= 0.985 and wilson(right, right + wrong)[0] >= 0.975


LOWEST = {
    "CN_LICENSE_PLATE": (0.93, 0.90),
    "CN_PASSPORT": (0.87, 0.87),
    "CN_RESIDENT_ID": (0.96, 0.96),
    "CN_TRAVEL_PERMIT": (0.87, 0.87),
    "CN_USCC": (0.89, 0.89),
    "CREDIT_CARD": (0.93, 0.93),
    "DATE_OF_BIRTH": (0.90, 0.90),
    "EMAIL_ADDRESS": (0.93, 0.93),
    "HK_ID": (0.85, 0.85),
    "MO_ID": (0.80, 0.80),
    "PHONE_NUMBER": (0.97, 0.94),
    "POSTAL_CODE": (0.85, 0.85),
    "TW_ID": (0.85, 0.85),
}
"""Lower ends of the 95 % intervals of recall and precision. All values of eleven entities are found and nothing else is called so; the sizes of
their samples bound what that shows."""


@pytest.mark.parametrize("entity", LOWEST)
def test_each_entity_keeps_its_figures(entity: str, counts: tuple[Counter[str], Counter[str], Counter[str]]) -> None:
    found, missed, false = (count[entity] for count in counts)
    recall, precision = wilson(found, found + missed), wilson(found, found + false)
    print(f"{entity}: recall {found}/{found + missed} {recall}, precision {found}/{found + false} {precision}")
    assert recall[0] >= LOWEST[entity][0]
    assert precision[0] >= LOWEST[entity][1]


def test_every_entity_in_the_set_has_figures_and_no_other_is_found(counts: tuple[Counter[str], Counter[str], Counter[str]]) -> None:
    found, missed, false = counts
    assert set(found | missed) == set(LOWEST) >= set(false)


def test_the_share_that_is_found_does_not_come_from_the_seed() -> None:
    spec = importlib.util.spec_from_file_location("pii_zh_again", HERE / "pii_zh.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found, missed, false = tally(json.loads(module.make(seed=77)))
    right = sum(found.values())
    assert right / (right + sum(missed.values())) >= WANTED and right / (right + sum(false.values())) >= WANTED


def test_wilson_gives_the_published_intervals() -> None:
    # Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)):
        assert wilson(right, total) == pytest.approx((low, high), abs=1e-4)


REVIEWS = ["很快，好吃，味道足，量大", "满20减10，送了3个小时，差评！！！", "手动10000000000000个赞。", "12点订的13点40才到，28块钱3个人吃不完，666"]


def test_nothing_is_found_in_reviews_that_hold_nothing() -> None:
    assert scan_values(REVIEWS) == [[]] * len(REVIEWS)


def test_twelve_thousand_reviews_hold_three_telephone_numbers_and_nothing_else() -> None:
    if not SHARED.exists():
        pytest.skip("the shared data set waimai_10k.csv is not beside this checkout")
    with SHARED.open(encoding="utf-8") as file:
        reviews = [row["review"] for row in csv.DictReader(file)]
    found = [(f.entity, review[f.start : f.end][:3]) for review, each in zip(reviews, scan_values(reviews), strict=True) for f in each]
    assert len(reviews) == 11_987
    # Looked at one by one: three couriers' or customers' mobiles, each after a word for telephone.
    assert found == [("PHONE_NUMBER", "132"), ("PHONE_NUMBER", "188"), ("PHONE_NUMBER", "130")]
