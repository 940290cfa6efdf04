"""How the conformance kit tries the recognizers: values from standards and documentation, which belong to nobody, and near misses."""

from __future__ import annotations

from affidavit.testing.kinds.recognizer.subject import RecognizerCase
from affidavit.testing.subjects import Case
from affidavit_governance.masking.recognizers.catalogue import BUNDLED

_Tried = tuple[list[tuple[str, str]], list[str]]
"""Texts with the value in each, and texts that look like it and are none."""

_MALTESE = "MT84 MALT 0110 0001 2345 MTLC AST0 01S"
_AZURE_KEY = "A1b/" * 21 + "ab=="
_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
_PRIVATE_KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIB\nabc=\n-----END RSA PRIVATE KEY-----"

_TRIED: dict[str, _Tried] = {
    "EMAIL_ADDRESS": (
        [
            ("write to ann.lee+loans@mail.example.co.uk today", "ann.lee+loans@mail.example.co.uk"),
            ("邮箱josé.garcía@example.com。", "josé.garcía@example.com"),
        ],
        ["ann at example dot org", "mentioned by @ann"],
    ),
    "CREDIT_CARD": (
        [("paid with 4111 1111 1111 1111 at noon", "4111 1111 1111 1111"), ("credit card 5018 0000 0009", "5018 0000 0009")],
        ["paid with 4111 1111 1111 1112 at noon"],
    ),
    "IBAN_CODE": (
        [("to GB29NWBK60161331926819, please", "GB29NWBK60161331926819"), (f"to {_MALTESE}", _MALTESE)],
        ["to GB28NWBK60161331926819, please"],
    ),
    "IP_ADDRESS": (
        [("from 192.0.2.235 at noon", "192.0.2.235"), ("from 2001:db8:85a3::8a2e:370:7334 too", "2001:db8:85a3::8a2e:370:7334")],
        ["version 1.2.3 of 300.400.500.600"],
    ),
    "US_SSN": ([("filed as 123-45-6789 in May", "123-45-6789"), ("her ssn is 123456789", "123456789")], ["filed as 666-45-6789 or 000-12-3456"]),
    "PHONE_NUMBER": (
        [("ring +44 (0)20 7946 0958 at nine", "+44 (0)20 7946 0958"), ("手机13812345678联系", "13812345678")],
        ["in 2024 there were 1200 of them"],
    ),
    "SWIFT_CODE": ([("SWIFT: DEUTDEFF", "DEUTDEFF"), ("BIC NWBKGB2LXXX", "NWBKGB2LXXX")], ["the ABSOLUTE TRUTHFUL answer"]),
    "MAC_ADDRESS": (
        [("on 00:1b:44:11:3a:b7 since noon", "00:1b:44:11:3a:b7"), ("on 001b.4411.3ab7 since", "001b.4411.3ab7")],
        ["at 10:20:30 and 11:21:31"],
    ),
    "URL": ([("see https://example.org/?user=ann@example.org", "https://example.org/?user=ann@example.org")], ["and/or either//both: see there"]),
    "DOMAIN_NAME": ([("see mail.example.co.uk today", "mail.example.co.uk")], ["e.g. this, i.e. that"]),
    "US_ITIN": ([("filed as 912-90-3456 in May", "912-90-3456"), ("itin 912903456", "912903456")], ["filed as 912-49-3456 in May"]),
    "US_PASSPORT": ([("passport number 123456789", "123456789"), ("US passport A12345678", "A12345678")], ["order number 123456789"]),
    "US_DRIVER_LICENSE": ([("driver's license number is 2270-66-1551", "2270-66-1551"), ("DL no D1234567", "D1234567")], ["part number D1234567"]),
    "UK_NHS": ([("NHS number 943 476 5919", "943 476 5919")], ["NHS number 943 476 5918"]),
    "UK_NINO": ([("insured as AB 12 34 56 C since May", "AB 12 34 56 C")], ["insured as QQ 12 34 56 Z since May"]),
    "DE_TAX_ID": ([("Steuer-ID 36 574 261 809", "36 574 261 809")], ["Steuer-ID 36 574 261 808"]),
    "ES_NIF": ([("firmado 54.362.315-K ayer", "54.362.315-K"), ("dni 54362315k", "54362315k")], ["dni 54362315T"]),
    "ES_NIE": ([("firmado X-2482300W ayer", "X-2482300W"), ("nie x2482300w", "x2482300w")], ["nie X-2482300A"]),
    "IT_FISCAL_CODE": ([("codice RCCMNL83S18D969H", "RCCMNL83S18D969H")], ["codice RCCMNL83S18D969A"]),
    "FR_NIR": ([("assurée 2 95 10 99 126 111 93 ici", "2 95 10 99 126 111 93")], ["assurée 2 95 10 99 126 111 94 ici"]),
    "PL_PESEL": ([("PESEL 44051401359", "44051401359")], ["PESEL 44051401358"]),
    "NL_BSN": ([("BSN 111222333", "111222333")], ["BSN 111222334"]),
    "IN_AADHAAR": ([("Aadhaar 2341 2341 2346", "2341 2341 2346")], ["Aadhaar 2341 2341 2345"]),
    "IN_PAN": ([("filed by ACUPA7085R", "ACUPA7085R"), ("pan abcpe1234f", "abcpe1234f")], ["filed by ACUXA70851"]),
    "CRYPTO": (
        [("send 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")],
        ["send 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb"],
    ),
    "AWS_ACCESS_KEY": ([("with AKIAIOSFODNN7EXAMPLE in it", "AKIAIOSFODNN7EXAMPLE")], ["with AKIAIOSFODNN in it"]),
    "AWS_SECRET_KEY": (
        [("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")],
        ["aws_secret_access_key = from the vault"],
    ),
    "AZURE_STORAGE_KEY": ([(f"AccountName=x;AccountKey={_AZURE_KEY};EndpointSuffix=core", _AZURE_KEY)], ["AccountName=x;AccountKey=short=="]),
    "GITHUB_TOKEN": ([(f"with ghp_{'a1B2' * 9} in it", f"ghp_{'a1B2' * 9}")], ["with ghp_short in it"]),
    "GOOGLE_API_KEY": ([(f"with AIza{'Sy1_-' * 7} in it", f"AIza{'Sy1_-' * 7}")], ["with AIzaSy1 in it"]),
    "SLACK_TOKEN": ([("with xoxb-123456789012-abcdefABCDEF in it", "xoxb-123456789012-abcdefABCDEF")], ["with xoxb-12 in it"]),
    "STRIPE_KEY": ([(f"with sk_test_{'a1B2' * 6} in it", f"sk_test_{'a1B2' * 6}")], ["with sk_test_1 in it"]),
    "JWT": (
        [(f"token {_TOKEN}", _TOKEN)],
        ["token eyJub3QgYSB0b2tlbg"],
    ),
    "PRIVATE_KEY": (
        [(f"kept: {_PRIVATE_KEY}", _PRIVATE_KEY)],
        ["kept: -----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"],
    ),
    "API_KEY": ([(f"with hf_{'aB' * 17} in it", f"hf_{'aB' * 17}")], ["with hf_aB in it"]),
    "NAMED_API_KEY": (
        [("api_key = 'q7Zx92Lk0PwRt5Yb'", "q7Zx92Lk0PwRt5Yb"), ("Authorization: Bearer abcdef0123456789ABCDEF", "abcdef0123456789ABCDEF")],
        ["api_key = None"],
    ),
    "PASSWORD": ([("password: hunter2", "hunter2"), ("密码是abc123!", "abc123!")], ["the password is needed to sign in"]),
    "DATE_OF_BIRTH": (
        [("born on 31 January 1990", "31 January 1990"), ("1990-01-31 is my birthday", "1990-01-31")],
        ["delivered on 31 January 1990"],
    ),
    "POSTAL_CODE": ([("postcode SW1A 1AA", "SW1A 1AA"), ("PLZ 10115 Berlin", "10115")], ["room 10115, model SW1A"]),
    "ADDRESS_POSTAL_CODE": (
        [("Springfield, IL 62704-1234", "62704-1234"), ("12 High Street, London SW1A 1AA", "SW1A 1AA")],
        ["ordered 62704 of them"],
    ),
    "LICENSE_PLATE": ([("Kennzeichen B-MW 1234", "B-MW 1234"), ("number plate: 7ABC123", "7ABC123")], ["part 7ABC123 of B-MW 1234"]),
    "CN_RESIDENT_ID": ([("身份证11010519491231002X。", "11010519491231002X")], ["编号110105194912310021。"]),
    "CN_USCC": ([("税号9135 0100 M000 100Y 43", "9135 0100 M000 100Y 43")], ["编号91350100M000100Y44"]),
    "CN_PASSPORT": ([("护照E12345678", "E12345678"), ("passport no EA1234567", "EA1234567")], ["零件E12345678"]),
    "CN_TRAVEL_PERMIT": ([("港澳通行证C12345678", "C12345678"), ("台胞证0123456789(B)", "0123456789(B)")], ["零件C12345678"]),
    "CN_LICENSE_PLATE": ([("停着沪AD12345。", "沪AD12345"), ("停着粤Z1234港。", "粤Z1234港")], ["在上海A座12345室"]),
    "HK_ID": ([("holder A123456(3) signed", "A123456(3)"), ("香港身份證A1234563", "A1234563")], ["holder A123456(4) signed"]),
    "MO_ID": ([("澳門身份證1234567(8)", "1234567(8)")], ["共1234567(8)件"]),
    "TW_ID": ([("身分證A123456789", "A123456789")], ["身分證A123456788"]),
    "CN_DATE_OF_BIRTH": ([("出生日期：1990年1月2日", "1990年1月2日"), ("生于一九九〇年一月二日", "一九九〇年一月二日")], ["发货日期：1990年1月2日"]),
    "CN_POSTAL_CODE": ([("邮编：100020", "100020"), ("210008（邮编）", "210008")], ["数量：100020"]),
}
"""By registered name; two of them share an entity with another."""

_ENTITY = {"NAMED_API_KEY": "API_KEY", "ADDRESS_POSTAL_CODE": "POSTAL_CODE", "CN_DATE_OF_BIRTH": "DATE_OF_BIRTH", "CN_POSTAL_CODE": "POSTAL_CODE"}

_PRESIDIO = ["EMAIL_ADDRESS", "CREDIT_CARD", "IP_ADDRESS", "IBAN_CODE"]

RECOGNIZERS: list[Case] = [
    *(
        RecognizerCase(name=name, examples={_ENTITY.get(name, name): _TRIED[name][0]}, counterexamples=_TRIED[name][1])
        for name, _ in BUNDLED
        if name in _TRIED
    ),
    RecognizerCase(
        name="patterns",
        settings={"STAFF_ID": {"pattern": "E-[0-9]{6}", "score": 0.5, "context": ["badge", "工号"]}, "CASE": "案[0-9]+号"},
        examples={
            "STAFF_ID": [("badge E-104729 was lost", "E-104729"), ("工号Ｅ-１０４７２９", "Ｅ-１０４７２９")],
            "CASE": [("见案2024号", "案2024号")],
        },
        counterexamples=["badge E-10472", "order E-104729 was sent", "见案号"],
    ),
    RecognizerCase(
        name="presidio",
        settings={"entities": _PRESIDIO},
        examples={name: _TRIED[name][0][:1] for name in _PRESIDIO},
        counterexamples=["paid with 4111 1111 1111 1112 at noon", "ann at example dot org"],
    ),
]
