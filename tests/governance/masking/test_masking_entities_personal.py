"""Dates of birth, postal codes and licence plates: found where words or the column's name make them personal, in several languages."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit_governance.masking import scan_text
from affidavit_governance.masking.recognizers.dates import dates
from affidavit_governance.masking.text import scan_values

BORN = [
    ("She was born on {}. Her maiden name is unknown.", "2/8/1935"),
    ("Could you update your date of birth. It's {}", "6/24/1991"),
    ("DOB: {}", "01/31/1990"),
    ("D.O.B. {}", "31-01-1990"),
    ("dob={}", "1990-01-31"),
    ('{{"birth_date": "{}"}}', "1990-01-31"),
    ("Date of birth {}", "12-Mar-85"),
    ("Birthday: {}", "January 31, 1990"),
    ("born {} in Leeds", "31st of January 1990"),
    ("born {}", "Sept. 3rd, 1970"),
    ("Birthdate {}", "19900131"),
    ("{} is my birthday", "1990-01-31"),
    ("geboren am {} in Köln", "31. 1. 1990"),
    ("Geburtsdatum: {}", "03.04.1985"),
    ("am {} geboren", "3. März 1985"),
    ("né le {}", "14 juillet 1989"),
    ("née le {} à Lyon", "14/07/1989"),
    ("Date de naissance : {}", "14.07.1989"),
    ("nacido el {}", "3 de marzo de 1985"),
    ("Fecha de nacimiento: {}", "03/03/1985"),
    ("nata a Roma il {}", "9 aprile 1925"),
    ("data di nascita {}", "09/04/1925"),
    ("Geboortedatum: {}", "3 maart 1985"),
    ("data de nascimento: {}", "03/03/1985"),
]
CODES = [
    ("ZIP: {}", "3520"),
    ("my zip code is {}", "35350"),
    ("My ZIP code is {}.", "10001-1234"),
    ("ZIP: {}", "394 13"),
    ("ZIP: {}", "7412 SL"),
    ("postal code {}", "3610-114"),
    ("Postal Code: {}", "K1A 0B1"),
    ("postcode {}", "SW1A 1AA"),
    ("Postcode: {}", "m1 1ae"),
    ("PLZ {} Berlin", "10115"),
    ("Code postal : {}", "75001"),
    ("código postal: {}", "28001"),
    ("kod pocztowy {}", "00-950"),
    ("PIN code {}", "560001"),
    ("Springfield, IL {}", "62704"),
    ("Springfield, IL {}", "62704-1234"),
    ("10 Downing Street, London {}", "SW1A 2AA"),
    ("111 Wellington Street, Ottawa {}", "K1A 0A4"),
]
PLATES = [
    ("license plate {}", "7ABC123"),
    ("License plate: {}", "ABC-1234"),
    ("number plate {}.", "AB12 CDE"),
    ("vehicle reg {}", "AB12CDE"),
    ("Kennzeichen {}", "B-MW 1234"),
    ("Kennzeichen: {}", "M AB 123"),
    ("immatriculation {}", "AB-123-CD"),
    ("targa {}", "AB 123 CD"),
    ("matrícula {}", "1234 BCD"),
    ("kenteken {}", "16-LSD-9"),
    ("registration number {}", "MH 12 AB 1234"),
]


def spans(text: str) -> list[tuple[str, str]]:
    return [(finding.entity, text[finding.start : finding.end]) for finding in scan_text(text)]


@pytest.mark.parametrize(("words", "date"), BORN)
def test_dates_of_birth_are_found_where_words_say_so(words: str, date: str) -> None:
    assert ("DATE_OF_BIRTH", date) in spans(words.format(date))
    assert "DATE_OF_BIRTH" not in {entity for entity, _ in spans(f"The meeting of {date} is over")}


@pytest.mark.parametrize(("words", "code"), CODES)
def test_postal_codes_are_found_where_words_or_an_address_say_so(words: str, code: str) -> None:
    assert ("POSTAL_CODE", code) in spans(words.format(code))
    assert "POSTAL_CODE" not in {entity for entity, _ in spans(f"We counted {code} of them")}


@pytest.mark.parametrize(("words", "plate"), PLATES)
def test_plates_are_found_where_words_say_so(words: str, plate: str) -> None:
    assert ("LICENSE_PLATE", plate) in spans(words.format(plate))
    assert "LICENSE_PLATE" not in {entity for entity, _ in spans(f"We bought {plate} today")}


@pytest.mark.parametrize(
    ("entity", "values"),
    [("DATE_OF_BIRTH", [date for _, date in BORN]), ("POSTAL_CODE", [code for _, code in CODES]), ("LICENSE_PLATE", [plate for _, plate in PLATES])],
)
def test_the_name_of_a_column_is_words_enough(entity: str, values: list[str]) -> None:
    for value, findings in zip(values, scan_values(values, hints=frozenset({entity})), strict=True):
        assert (entity, 0, len(value)) in [(finding.entity, finding.start, finding.end) for finding in findings], value


@pytest.mark.parametrize(
    "text",
    [
        "born 30/02/1990",
        "date of birth: 2023-02-29",
        "DOB 00.01.1990",
        "born in 1977",
        "The Orchestra was founded in 1977. Born to run!",
        "birth rate 1.2 of 3.4 in 2019",
        "newborn care 12/13, born free 3-4",
        "date of birth: 1990-13-45",
    ],
)
def test_what_is_no_day_of_the_calendar_is_no_date_of_birth(text: str) -> None:
    assert "DATE_OF_BIRTH" not in {entity for entity, _ in spans(text)}


def test_only_the_date_next_to_the_words_is_a_date_of_birth() -> None:
    assert spans("born 1990-01-31, hired 2015-03-01") == [("DATE_OF_BIRTH", "1990-01-31")]
    assert spans("Issued 2020-01-01. Date of birth: 1990-01-31") == [("DATE_OF_BIRTH", "1990-01-31")]


@pytest.mark.parametrize(
    "text",
    [
        "zip file of 12 MB, zipped 12345 files, a zipper 12345",
        "post 12345 letters, the post office 1234",
        "flight BA1234 to GATE 5",
        "plate 12 and plate 13, reg no 12345, registration number 2019/123",
        "matrix 1234 BCD",
        "Article 5, ZZ 12345 and 6, AB 123456",
        "10 Downing Street, QQ1A 2AA",
    ],
)
def test_words_of_another_sense_make_nothing_personal(text: str) -> None:
    assert not {entity for entity, _ in spans(text)} & {"POSTAL_CODE", "LICENSE_PLATE"}


FORMATS = ["%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%y", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y", "%b %d %Y", "%Y%m%d", "%d. %B %Y"]


@settings(max_examples=60, deadline=None)
@given(st.dates(datetime.date(1850, 1, 1), datetime.date(2099, 12, 31)), st.sampled_from(FORMATS))
def test_every_day_is_found_in_every_writing(day: datetime.date, form: str) -> None:
    date = day.strftime(form)
    text = f"on {date}, then"
    assert dates(text, 0, len(text)) == [(3, 3 + len(date))]


def test_dates_are_sought_only_where_they_begin_between_the_bounds() -> None:
    text = "1990-01-31 1991-01-31 1992-01-31"
    assert dates(text, 5, 12) == [(11, 21)]
    assert dates(text, 0, len(text)) == [(0, 10), (11, 21), (22, 32)]
