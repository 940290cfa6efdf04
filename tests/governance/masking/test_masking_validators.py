"""Validators against examples that their own publishers print."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit_governance.masking.cells import card_numbers
from affidavit_governance.masking.recognizers import validators as v

# Test numbers that the card networks and payment processors publish.
CARDS = {
    "4111111111111111": "Visa",
    "4222222222222": "Visa",
    "5555555555554444": "Mastercard",
    "2223003122003222": "Mastercard",
    "378282246310005": "American Express",
    "30569309025904": "Diners Club",
    "6011111111111117": "Discover",
    "3530111333300000": "JCB",
    "6200000000000005": "UnionPay",
}
# Examples in the SWIFT IBAN registry.
IBANS = [
    "GB29NWBK60161331926819",
    "DE89370400440532013000",
    "FR1420041010050500013M02606",
    "NO9386011117947",
    "MT84MALT011000012345MTLCAST001S",
    "LC55HEMM000100010012001200023015",
    "SC18SSCB11010000000000001497USD",
    "ES9121000418450200051332",
    "SA0380000000608010167519",
]


@pytest.mark.parametrize(("number", "issuer"), CARDS.items())
def test_published_card_numbers_pass_luhn_and_name_their_issuer(number: str, issuer: str) -> None:
    assert v.luhn(number)
    assert v.card_issuer(number) == issuer


def test_the_luhn_example_of_the_standard_holds_and_each_other_check_digit_fails() -> None:
    assert v.luhn("79927398713")
    assert [d for d in "0123456789" if v.luhn("7992739871" + d)] == ["3"]


@given(st.text("0123456789", min_size=12, max_size=19), st.data())
def test_luhn_catches_every_single_wrong_digit(digits: str, data: st.DataObject) -> None:
    check = next(d for d in "0123456789" if v.luhn(digits + d))
    number = digits + check
    at = data.draw(st.integers(0, len(number) - 1))
    other = data.draw(st.sampled_from([d for d in "0123456789" if d != number[at]]))
    assert not v.luhn(number[:at] + other + number[at + 1 :])


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30))
@settings(deadline=None)
def test_card_numbers_in_arrays_are_those_that_the_text_validator_accepts(numbers: list[int]) -> None:
    numbers = [*numbers, 4111111111111111, 4111111111111112]
    expected = [10**12 <= n < 10**19 and v.luhn(str(n)) and v.card_issuer(str(n)) is not None for n in numbers]
    assert expected[-2:] == [True, False]
    assert card_numbers(pa.array(numbers, pa.int64())).tolist() == expected


@pytest.mark.parametrize("text", IBANS)
def test_ibans_of_the_registry_are_valid_and_no_changed_digit_is(text: str) -> None:
    assert v.iban(text)
    assert v.iban(text.lower())
    digit = "1" if text[5] != "1" else "2"
    assert not v.iban(text[:5] + digit + text[6:])
    assert not v.iban(text + "0")
    assert not v.iban("ZZ" + text[2:])


def test_social_security_numbers_that_are_never_assigned_are_refused() -> None:
    assert v.us_ssn("001", "01", "0001")
    for parts in (("000", "12", "3456"), ("666", "12", "3456"), ("900", "12", "3456"), ("123", "00", "4567"), ("123", "45", "0000")):
        assert not v.us_ssn(*parts)


def test_addresses_follow_their_standards() -> None:
    assert v.ipv4("192.0.2.1")
    assert not v.ipv4("192.0.2.256")
    assert not v.ipv4("1.2.3")
    assert v.ipv6("2001:db8::1")
    assert not v.ipv6("2001:db8:::1")


def test_calling_codes_are_those_that_itu_assigned() -> None:
    assert v.calling_code("4915112345678") == "49"
    assert v.calling_code("12025550123") == "1"
    assert v.calling_code("35312345678") == "353"
    assert v.calling_code("2101234567") is None
    assert v.calling_code("999123") is None
    assert np.all([1 <= len(code) <= 3 for code in v.CALLING_CODES])
