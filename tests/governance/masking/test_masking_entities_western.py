"""Western and Indian identifiers in running text: found with any neighbours, in any language around them, and not where they only look so."""

from __future__ import annotations

import pytest

from affidavit_governance.masking import scan_text
from affidavit_governance.masking.recognizers.catalogue import BUNDLED, patterns
from affidavit_governance.masking.text import scan_values

ALONE = [
    ("US_ITIN", "912-90-3456"),
    ("UK_NHS", "401 023 2137"),
    ("UK_NINO", "AB123456C"),
    ("UK_NINO", "AB 12 34 56 C"),
    ("UK_NINO", "AB-12-34-56-C"),
    ("DE_TAX_ID", "36574261809"),
    ("DE_TAX_ID", "36 574 261 809"),
    ("DE_TAX_ID", "36/574/261/809"),
    ("ES_NIF", "54362315K"),
    ("ES_NIF", "54362315-K"),
    ("ES_NIF", "54.362.315-K"),
    ("ES_NIE", "X2482300W"),
    ("ES_NIE", "X-2482300-W"),
    ("IT_FISCAL_CODE", "RCCMNL83S18D969H"),
    ("IT_FISCAL_CODE", "rccmnl83s18d969h"),
    ("IT_FISCAL_CODE", "RCC MNL 83S18 D969 H"),
    ("IT_FISCAL_CODE", "RCCMNL83S18D96VW"),
    ("IT_FISCAL_CODE", "RCCMNL83S18D9SVI"),
    ("FR_NIR", "295109912611193"),
    ("FR_NIR", "2 95 10 99 126 111 93"),
    ("FR_NIR", "2 53 07 2B 073 004 / 70"),
    ("IN_AADHAAR", "2341 2341 2346"),
    ("IN_AADHAAR", "4991-1866-5246"),
    ("IN_PAN", "ACUPA7085R"),
]
"""Entities whose check or form is enough."""

NAMED = [
    ("US_ITIN", "ITIN {}", "912903456"),
    ("US_PASSPORT", "passport no. {}", "123456789"),
    ("US_PASSPORT", "US Passport: {}", "C12345678"),
    ("US_DRIVER_LICENSE", "driver's license number is {}", "6940579"),
    ("US_DRIVER_LICENSE", "her Driver License: {}", "D1234567"),
    ("US_DRIVER_LICENSE", "drivers license {}", "A123-456-78-901-0"),
    ("US_DRIVER_LICENSE", "DL# {}", "94-330-1012"),
    ("UK_NHS", "NHS number {}", "9434765919"),
    ("UK_NHS", "NHS no: {}", "943-476-5919"),
    ("UK_NINO", "national insurance number {}", "ab 12 34 56 c"),
    ("ES_NIF", "DNI {}", "54362315 k"),
    ("ES_NIE", "su NIE es {}", "x2482300w"),
    ("PL_PESEL", "PESEL: {}", "44051401359"),
    ("NL_BSN", "BSN {}", "111222333"),
    ("NL_BSN", "burgerservicenummer {}", "1112.22.333"),
    ("IN_AADHAAR", "Aadhaar number {}", "234123412346"),
    ("IN_PAN", "PAN {}", "acupa7085r"),
]
"""Entities that words beside them must name."""

FRAMES = [
    "{}",
    "It is {}.",
    "({})",
    '"{}"',
    "'{}', the other",
    "x\n{}\ny",
    "id={};",
    "<b>{}</b>",
    "编号是{}，谢谢",
    "一{}二",
    "first {}, then 12 apples",
]


def spans(text: str) -> list[tuple[str, str]]:
    return [(finding.entity, text[finding.start : finding.end]) for finding in scan_text(text)]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize(("entity", "value"), ALONE)
def test_identifiers_with_a_check_are_found_between_any_neighbours(entity: str, value: str, frame: str) -> None:
    assert (entity, value) in spans(frame.format(value))


@pytest.mark.parametrize(("entity", "words", "value"), NAMED)
def test_identifiers_that_words_name_are_found(entity: str, words: str, value: str) -> None:
    for frame in ("{}", "Note: {}.", "（{}）", "他说{}，好", "{}\nand 7 more"):
        assert (entity, value) in spans(frame.format(words.format(value)))


WITHOUT_WORDS = {"US_PASSPORT", "US_DRIVER_LICENSE", "PL_PESEL", "NL_BSN"}


@pytest.mark.parametrize(("entity", "words", "value"), [row for row in NAMED if row[0] in WITHOUT_WORDS])
def test_numbers_without_a_check_worth_the_name_are_nothing_without_words(entity: str, words: str, value: str) -> None:
    assert entity not in {found for found, _ in spans(f"we got {value} of them")}


@pytest.mark.parametrize(("entity", "words", "value"), NAMED)
def test_the_name_of_a_column_speaks_for_its_values(entity: str, words: str, value: str) -> None:
    (findings,) = scan_values([value], hints=frozenset({entity}))
    assert [(finding.entity, finding.end - finding.start) for finding in findings] == [(entity, len(value))]


@pytest.mark.parametrize(("entity", "value"), [row for row in ALONE if row[0] not in ("IN_PAN", "UK_NINO", "US_ITIN")])
def test_a_wrong_check_digit_is_no_finding(entity: str, value: str) -> None:
    for place, char in enumerate(value):
        if char.isdigit():
            wrong = value[:place] + str((int(char) + 1) % 10) + value[place + 1 :]
            if entity == "DE_TAX_ID" and (entity, wrong) in spans(wrong):
                continue  # A changed digit may repeat another one's place and still pass: not checked one by one.
            assert (entity, wrong) not in spans(wrong)


@pytest.mark.parametrize(("entity", "value"), ALONE)
def test_part_of_a_longer_number_or_word_is_no_finding(entity: str, value: str) -> None:
    for longer in (f"7{value}", f"{value}7", f"a{value}", f"{value}b", f"x_{value}", f"{value}_x"):
        assert (entity, value) not in spans(longer), longer


def test_full_width_digits_and_letters_count() -> None:
    assert [entity for entity, _ in spans("税号ＲＣＣＭＮＬ８３Ｓ１８Ｄ９６９Ｈ")] == ["IT_FISCAL_CODE"]
    assert [entity for entity, _ in spans("号码２３４１ ２３４１ ２３４６")] == ["IN_AADHAAR"]


def test_twelve_digits_of_a_card_are_no_aadhaar_number() -> None:
    assert "IN_AADHAAR" not in {entity for entity, _ in spans("5018 2341 2341 2346")} | {entity for entity, _ in spans("2341 2341 2346 5018")}


def test_a_telephone_number_is_not_taken_for_an_nhs_number_unless_words_say_so() -> None:
    assert spans("call 212 456 7897")[0][0] == "PHONE_NUMBER"
    assert spans("NHS number 943 476 5919, call us") == [("UK_NHS", "943 476 5919")]


def test_an_nhs_number_without_words_is_one_only_in_the_printed_form_and_range() -> None:
    assert "UK_NHS" in {entity for entity, _ in spans("401 023 2137")}
    for other in ("401-023-2137", "4010232137", "943 476 5919"):
        assert "UK_NHS" not in {entity for entity, _ in spans(f"we got {other} of them")}


@pytest.mark.parametrize(
    "text",
    [
        "her driver's license was renewed on 2019-05-12",
        "the driver's license test of 12 05 2019",
        "driver's license number: 1234",
        "passport AB12345678",
        "passport 1A12345678",
        "passport x_123456789",
        "passport 1234567890",
        "passport 12345678",
    ],
)
def test_other_numbers_after_the_words_are_no_passport_and_no_licence(text: str) -> None:
    assert not {entity for entity, _ in spans(text)} & {"US_PASSPORT", "US_DRIVER_LICENSE"}


ORDINARY = [
    "The court ruled in 1998 that section 12345678 applies; see page 1234567 of volume 89.",
    "Order 2024-11-22/123456789, invoice INV20241122, SKU AB12345, batch X1234567.",
    "Tracking 1Z999AA10123456784, ISBN 978-3-16-148410-0, version 10.2.4.1998, GB123456A.",
    "Cat on a Hot Tin Roof, 956598656 views, 04:30:12, 3.14159265358, 1,234,567,890.",
    "UUID 123e4567-e89b-12d3-a456-426614174000, sha 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12.",
    "He drove 12345678 km without a license; the passport office is closed.",
    "BASIC1234Z is a model name and STEEL12345 another.",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_holds_no_identifier(text: str) -> None:
    mine = {name for name, _ in BUNDLED} - {"PHONE_NUMBER", "URL", "DOMAIN_NAME", "IP_ADDRESS", "CREDIT_CARD"}
    assert not [found for found in spans(text) if found[0] in mine]


def test_long_runs_of_near_misses_are_read_to_their_end_by_every_recognizer() -> None:
    # No clock here: each pattern is bounded or possessive, and one that tried again from each place would not come to an end in minutes.
    pieces = ["1", "1 ", "12-", "A1", "a ", "AB 12 34 56 ", "ey", "eyJ.", "-----BEGIN PRIVATE KEY-----!", "-----BEGIN ", "0x", "password: ", "ghp_"]
    pieces += ["born 1.1.", "zip ", "plate ", "driver's license ", "11111111111111111111 ", "://a:", "bc1q", "key=", "31 january ", "X-"]
    for piece in pieces:
        text = piece * (100_000 // len(piece))
        for recognizer in patterns():
            for finding in recognizer.find(text):
                assert finding.start < finding.end


@pytest.mark.parametrize("hinted", [False, True])
def test_no_finding_reaches_across_the_cells_of_a_column(hinted: bool) -> None:
    values = [value for _, value in ALONE] + [words.format(value) for _, words, value in NAMED]
    values += ["password:", "secret1", "born on", "1 May 1990", "zip", "12345", "ghp_" + "a" * 20, "b" * 20, "license plate", "AB12 CDE"]
    hints = frozenset(name for name, _ in BUNDLED) if hinted else frozenset()
    together = scan_values(values, hints=hints)
    assert together == [scan_values([value], hints=hints)[0] for value in values]
