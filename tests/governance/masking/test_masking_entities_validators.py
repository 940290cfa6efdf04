"""Checks of national identifiers: published examples, and python-stdnum as a second opinion on generated numbers.

Examples without a source beside them are those of python-stdnum's own documentation.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import verhoeff
from stdnum.de import idnr
from stdnum.es import nie, nif
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar, pan
from stdnum.iso7064 import mod_11_10
from stdnum.it import codicefiscale
from stdnum.nl import bsn
from stdnum.pl import pesel
from stdnum.us import itin

from affidavit_governance.masking.recognizers import national_ids as ids

PUBLISHED = [
    (ids.uk_nhs, "9434765919", True),  # NHS Data Dictionary, NHS NUMBER
    (ids.uk_nhs, "9434765918", False),
    (ids.uk_nhs, "4010232137", True),  # Wikipedia, NHS number
    (ids.uk_nino, "AB123456C", True),
    (ids.uk_nino, "QQ123456C", False),  # HMRC's own example, made so that nobody has it
    (ids.uk_nino, "GB123456A", False),
    (ids.uk_nino, "AO123456A", False),
    (ids.uk_nino, "AB123456E", False),
    (ids.de_tax_id, "36574261809", True),
    (ids.de_tax_id, "65929970489", True),
    (ids.de_tax_id, "36574261890", False),
    (ids.de_tax_id, "36554266806", False),
    (ids.de_tax_id, "12345678903", False),  # no digit repeated
    (ids.es_nif, "54362315K", True),
    (ids.es_nif, "54362315Z", False),
    (ids.es_nif, "12345678Z", True),  # Ministerio del Interior, specimen
    (ids.es_nie, "X2482300W", True),
    (ids.es_nie, "X2482300A", False),
    (ids.es_nie, "Y1234567X", True),
    (ids.it_fiscal_code, "RCCMNL83S18D969H", True),
    (ids.it_fiscal_code, "RCCMNL83S18D969", False),
    (ids.it_fiscal_code, "RCCMNL83S18D969I", False),
    (ids.it_fiscal_code, "MRTMTT25D09F205Z", True),  # Agenzia delle Entrate, specimen card
    (ids.it_fiscal_code, "MRTMTT25D09F20RR", False),
    (ids.fr_nir, "295109912611193", True),
    (ids.fr_nir, "295109912611199", False),
    (ids.fr_nir, "253072B07300470", True),
    (ids.fr_nir, "253072A07300443", True),
    (ids.fr_nir, "995109912611193", False),
    (ids.pl_pesel, "44051401359", True),  # Wikipedia, PESEL
    (ids.pl_pesel, "44051401358", False),
    (ids.pl_pesel, "02381307589", False),  # month 38 is none
    (ids.nl_bsn, "111222333", True),
    (ids.nl_bsn, "111252333", False),
    (ids.nl_bsn, "000000000", False),
    (ids.in_aadhaar, "234123412346", True),
    (ids.in_aadhaar, "499118665246", True),  # UIDAI, sample card
    (ids.in_aadhaar, "234123412347", False),
    (ids.in_aadhaar, "123412341234", False),
    (ids.in_aadhaar, "222222222222", False),
    (ids.in_pan, "ACUPA7085R", True),
    (ids.in_pan, "ACUQA7085R", False),
    (ids.in_pan, "ACUPA0000R", False),
    (ids.verhoeff, "2363", True),  # Verhoeff's algorithm, Wikipedia's example 236
    (ids.verhoeff, "2364", False),
    (ids.mod_11_10, "07945", True),  # ISO/IEC 7064's example 0794
]


@pytest.mark.parametrize(("check", "value", "right"), PUBLISHED, ids=lambda v: getattr(v, "__name__", str(v)))
def test_published_examples_are_judged_as_their_publishers_do(check: object, value: str, right: bool) -> None:
    assert check(value) is right  # type: ignore[operator]


few = settings(max_examples=30, deadline=None)


def digits(size: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=size, max_size=size)


@few
@given(digits(10))
def test_nhs_numbers_are_judged_as_python_stdnum_does(value: str) -> None:
    for last in "0123456789":
        assert ids.uk_nhs(value[:9] + last) == nhs.is_valid(value[:9] + last)


@few
@given(st.permutations("0123456789"), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_german_tax_ids_are_judged_as_python_stdnum_does_but_for_three_in_a_row(order: list[str], first: int, second: int, third: int) -> None:
    ten = list(order)
    ten[second] = ten[first]
    ten[third] = ten[first]
    for last in "0123456789":
        value = "".join(ten) + last
        # The tax office gives out no number with the same digit three times in a row (rule of 2016); python-stdnum does not look.
        row = any(digit * 3 in value[:10] for digit in value)
        assert ids.de_tax_id(value) == (idnr.is_valid(value) and not row)


@few
@given(digits(8), st.sampled_from("0123456789KLM"))
def test_spanish_nifs_are_judged_as_python_stdnum_does(number: str, first: str) -> None:
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        assert ids.es_nif(first + number[1:] + letter) == nif.is_valid(first + number[1:] + letter)


@few
@given(digits(7), st.sampled_from("XYZW"))
def test_spanish_nies_are_judged_as_python_stdnum_does(number: str, first: str) -> None:
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        assert ids.es_nie(first + number + letter) == nie.is_valid(first + number + letter)


@few
@given(
    st.from_regex(r"[A-Z]{6}", fullmatch=True),
    st.text("0123456789LMNPQRSTUV", min_size=7, max_size=7),
    st.sampled_from("ABCDEHLMPRSTFG"),
    st.sampled_from("ADFZ"),
)
def test_italian_fiscal_codes_are_judged_as_python_stdnum_does_but_for_days_above_71(name: str, numbers: str, month: str, place: str) -> None:
    start = name + numbers[:2] + month + numbers[2:4] + place + numbers[4:]
    day = int(numbers[2:4].translate(str.maketrans("LMNPQRSTUV", "0123456789")))
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        # python-stdnum takes the day modulo 40, so that 81 counts as 1.
        assert ids.it_fiscal_code(start + letter) == (codicefiscale.is_valid(start + letter) and day <= 71)


@few
@given(digits(5), st.one_of(digits(2), st.sampled_from(["2A", "2B"])), digits(6), st.integers(0, 99))
def test_french_nirs_are_judged_as_python_stdnum_does_but_for_sex_and_month(born: str, place: str, rest: str, other: int) -> None:
    number = born + place + rest
    right = 97 - int(number.replace("2A", "19", 1).replace("2B", "18", 1) if place in ("2A", "2B") else number) % 97
    month = int(born[3:])
    assigned = born[0] in "123478" and (1 <= month <= 12 or month == 20 or 30 <= month <= 42 or month >= 50)
    for key in {right, other}:
        # python-stdnum looks at the key alone.
        assert ids.fr_nir(f"{number}{key:02d}") == (nir.is_valid(f"{number}{key:02d}") and assigned)


@few
@given(digits(2), st.integers(0, 99), st.integers(0, 35), digits(4))
def test_pesels_are_judged_as_python_stdnum_does(year: str, month: int, day: int, order: str) -> None:
    for last in "0123456789":
        value = f"{year}{month:02d}{day:02d}{order}{last}"
        assert ids.pl_pesel(value) == pesel.is_valid(value)


@few
@given(digits(8))
def test_burgerservicenummers_are_judged_as_python_stdnum_does(number: str) -> None:
    for last in "0123456789":
        assert ids.nl_bsn(number + last) == bsn.is_valid(number + last)


@few
@given(digits(11))
def test_aadhaar_numbers_and_verhoeff_digits_are_judged_as_python_stdnum_does(number: str) -> None:
    for last in "0123456789":
        assert ids.verhoeff(number + last) == verhoeff.is_valid(number + last)
        assert ids.in_aadhaar(number + last) == aadhaar.is_valid(number + last)


@few
@given(digits(10))
def test_mod_11_10_is_judged_as_python_stdnum_does(number: str) -> None:
    for last in "0123456789":
        assert ids.mod_11_10(number + last) == mod_11_10.is_valid(number + last)


@few
@given(st.from_regex(r"[A-Z]{5}[0-9]{4}[A-Z]", fullmatch=True))
def test_pans_are_judged_as_python_stdnum_does(value: str) -> None:
    assert ids.in_pan(value) == pan.is_valid(value)


def test_itins_are_judged_as_python_stdnum_does_but_for_the_groups_given_out_since_2011() -> None:
    for group in range(100):
        for area in ("900", "912", "999", "899", "123"):
            # python-stdnum knows 70 to 99; the IRS has given out 50 to 65 as well since (Publication 4757).
            since = area[0] == "9" and 50 <= group <= 65
            assert ids.us_itin(area, f"{group:02d}") == (itin.is_valid(f"{area}-{group:02d}-1234") or since)


def test_an_aadhaar_number_is_no_palindrome() -> None:
    palindromes = [half + half[::-1] for half in map(str, range(200_000, 200_100))]
    passing = [value for value in palindromes if ids.verhoeff(value)]
    assert passing
    assert not any(ids.in_aadhaar(value) for value in passing)


@pytest.mark.parametrize("month", "ABCDEHLMPRST")
def test_each_day_of_an_italian_fiscal_code_is_judged_as_python_stdnum_does(month: str) -> None:
    for year in ("83", "84", "00"):
        for day in range(80):
            start = f"RCCMNL{year}{month}{day:02d}D969"
            code = start + codicefiscale.calc_check_digit(start)
            assert ids.it_fiscal_code(code) == codicefiscale.is_valid(code)


def test_every_single_wrong_digit_of_an_aadhaar_number_is_noticed() -> None:
    right = "499118665246"
    for place in range(12):
        for digit in "0123456789":
            changed = right[:place] + digit + right[place + 1 :]
            assert ids.in_aadhaar(changed) == (changed == right)


@few
@given(st.dates())
def test_real_days_are_those_of_the_calendar(day: object) -> None:
    assert ids.real_date(day.year, day.month, day.day)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("year", "month", "day"), [(2023, 2, 29), (1900, 2, 29), (2024, 4, 31), (2024, 13, 1), (2024, 0, 1), (2024, 1, 0)])
def test_days_that_no_calendar_has_are_none(year: int, month: int, day: int) -> None:
    assert not ids.real_date(year, month, day)
