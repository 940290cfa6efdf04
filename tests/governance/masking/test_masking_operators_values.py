"""What single operators make of values: pseudonyms, fixed values, partial masks, shifts, noise, hierarchies, stand-ins."""

from __future__ import annotations

import builtins
import datetime as dt
import hashlib
import ipaddress
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from affidavit.errors import InvalidInput, MissingExtra, UsageError
from affidavit.interfaces.masking import MaskContext
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators import contents
from affidavit_governance.masking.operators import pseudonym as pseudonym_file
from affidavit_governance.masking.operators.catalogue import BUNDLED
from affidavit_governance.masking.recognizers.validators import iban, luhn

KEY = bytes(range(32))


def column(*values: Any, kind: Any = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def mask(
    name: str, values: pa.ChunkedArray, *, entity: str | None = None, subjects: Any = None, key: bytes = KEY, **given_settings: Any
) -> pa.ChunkedArray:
    masked = BUNDLED[name](**given_settings).apply(values, Field("c", FieldType.TEXT, entity=entity), MaskContext(key, subjects=subjects))
    assert masked is not None
    return masked


# -- pseudonym ------------------------------------------------------------------------------------------------------------------------------


def pseudonym(content: bytes, namespace: bytes = b"") -> str:
    """The format, written out plainly."""
    prefix = len(namespace).to_bytes(4, "big") + namespace
    digest = hashlib.blake2b(prefix + content, digest_size=16, key=KEY, person=b"affidavit-pn-1").digest()
    secret = np.frombuffer(hashlib.blake2b(digest_size=40, key=KEY, person=b"affidavit-pm-1").digest(), "<u8")
    words = [int.from_bytes(digest[at : at + 4], "little") for at in range(0, 16, 4)]
    mixed = (sum(word * int(factor) for word, factor in zip(words, secret[:4], strict=True)) + int(secret[4])) % 2**64
    return (digest + (mixed >> 32).to_bytes(4, "little")).hex()


def test_a_pseudonym_made_by_the_first_release_is_the_one_made_now() -> None:
    """A change here would break every join with data that were masked before."""
    assert mask("pseudonym", column("ann", "5")).to_pylist() == [pseudonym(b"ann"), pseudonym(b"5")]
    assert pseudonym(b"ann") == "342238a126473133ec95049f2f2f2f15477bb129"


@given(st.lists(st.one_of(st.none(), st.text(max_size=50)), max_size=50), st.text(max_size=5))
@settings(max_examples=100, deadline=None)
def test_pseudonyms_are_as_written_out_for_any_text(texts: list[str | None], namespace: str) -> None:
    expected = [None if text is None else pseudonym(text.encode(), namespace.encode()) for text in texts]
    assert mask("pseudonym", column(*texts, kind=pa.string()), namespace=namespace).to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "content"),
    [
        (column(5, kind=pa.int8()), b"5"),
        (column(5.0), b"5"),
        (column(2.5, kind=pa.float32()), b"2.5"),
        (column(Decimal("2.50")), b"2.5"),
        (column(Decimal("1E+3"), kind=pa.decimal128(8, 0)), b"1000"),
        (column(-0.0), b"0"),
        (column(float("inf")), b"inf"),
        (column(1e-7), b"1e-07"),
        (column(True), b"True"),
        (column(dt.date(2020, 1, 2)), b"2020-01-02"),
        (column(dt.datetime(2020, 1, 2, 3, 4, 5)), b"2020-01-02 03:04:05"),
        (column(1577934245000000000, kind=pa.timestamp("ns")), b"2020-01-02 03:04:05"),
        (column(1577934245000001500, kind=pa.timestamp("ns")), b"2020-01-02 03:04:05.000001500"),
        (column(1577934245000001500, kind=pa.timestamp("ns", "UTC")), b"2020-01-02 03:04:05.000001500+00:00"),
        (column(b"\xff\x00"), b"\xff\x00"),
    ],
    ids=str,
)
def test_values_that_compare_equal_have_one_pseudonym_whatever_their_type(values: pa.ChunkedArray, content: bytes) -> None:
    assert mask("pseudonym", values).to_pylist() == [pseudonym(content)]


def test_long_columns_with_and_without_repetitions_give_the_same_as_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SAMPLE", 10)
    monkeypatch.setattr(contents, "_RUN", 50)
    monkeypatch.setattr(pseudonym_file, "_TILE", 30)
    distinct = [f"value {i}" for i in range(200)]
    for texts in (distinct, distinct[:5] * 40, [None, *distinct[:150], None], [None] * 30):
        expected = [None if text is None else pseudonym(text.encode()) for text in texts]
        assert mask("pseudonym", column(*texts, kind=pa.string())).to_pylist() == expected


def test_results_beyond_the_reach_of_32_bit_positions_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_CHUNK_BYTES", 100)
    for texts in ([f"{i}" for i in range(30)], ["a", "b", None] * 10):
        for sample in (5, 1000):
            monkeypatch.setattr(contents, "_SAMPLE", sample)
            masked = mask("pseudonym", column(*texts))
            assert masked.num_chunks > 5
            assert masked.to_pylist() == [None if text is None else pseudonym(text.encode()) for text in texts]


# -- replace and partial --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "value", "expected"),
    [
        (column("a", None), "x", ["x", None]),
        (column(1, None, kind=pa.int16()), 7, [7, None]),
        (column(1.5, float("nan")), 0, [0.0, None]),
        (column(Decimal("1.50"), None), 2, [Decimal("2.00"), None]),
        (column(True, None), False, [False, None]),
        (column(dt.date(1990, 5, 17), None), "2000-01-01", [dt.date(2000, 1, 1), None]),
        (column(b"a"), "x", [b"x"]),
        (pa.chunked_array([pa.array(["a", "b", None]).dictionary_encode()]), "x", ["x", "x", None]),
    ],
    ids=str,
)
def test_replace_keeps_the_type_and_what_is_missing(values: pa.ChunkedArray, value: Any, expected: list[Any]) -> None:
    masked = mask("replace", values, value=value)
    assert masked.type == values.type
    assert masked.to_pylist() == expected
    assert mask("replace", masked, value=value).equals(masked)


@pytest.mark.parametrize(
    ("values", "value"),
    [(column("a"), 5), (column(1), "five"), (column(1), 2.5), (column(1, kind=pa.int8()), 300), (column(1), True), (column([1]), 1)],
    ids=str,
)
def test_replace_refuses_a_value_that_does_not_fit_the_column(values: pa.ChunkedArray, value: Any) -> None:
    with pytest.raises(UsageError, match="'c' has the Arrow type.*does not fit"):
        mask("replace", values, value=value)


@pytest.mark.parametrize(
    ("text", "given_settings", "expected"),
    [
        ("4111 1111 1111 1234", {}, "**** **** **** 1234"),
        ("4111111111111234", {"first": 4, "last": 4, "char": "X"}, "4111XXXXXXXX1234"),
        ("ann.lee@example.com", {"first": 2, "last": 0}, "an*.***@*******.***"),
        ("12345678", {}, "****5678"),
        ("1234567", {}, "*******"),
        ("1-2-3", {}, "*-*-*"),
        ("", {}, ""),
        ("--", {}, "--"),
        ("abcdef", {"last": 0}, "******"),
        ("李小明张三丰", {"first": 1, "last": 0}, "李*****"),
        ("李小明", {"first": 1, "last": 1, "char": "※"}, "※※※"),
        ("naïve café owner", {"first": 3, "last": 0}, "naï** **** *****"),
    ],
)
def test_partial_hides_at_least_as_much_as_it_shows(text: str, given_settings: dict[str, Any], expected: str) -> None:
    masked = mask("partial", column(text, None), **given_settings)
    assert masked.to_pylist() == [expected, None]
    assert mask("partial", masked, **given_settings).equals(masked)


@given(
    st.lists(st.text(max_size=30), max_size=20),
    st.integers(0, 6),
    st.integers(0, 6),
    st.sampled_from(["*", "X", "0", "•", "-"]),
)
@settings(max_examples=150, deadline=None)
def test_partial_for_any_text(texts: list[str], first: int, last: int, char: str) -> None:
    masked = mask("partial", column(*texts, kind=pa.string()), first=first, last=last, char=char)
    assert mask("partial", masked, first=first, last=last, char=char).equals(masked)
    for before, after in zip(texts, masked.to_pylist(), strict=True):
        assert len(before) == len(after)
        counted = [i for i, c in enumerate(before) if (c.isalnum() and c.isascii()) or not c.isascii() or c == char]
        shown = counted[:first] + counted[len(counted) - last :] if len(counted) >= 2 * (first + last) else []
        assert after == "".join(c if i in shown or i not in counted else char for i, c in enumerate(before))


# -- date shift -----------------------------------------------------------------------------------------------------------------------------

DAYS = [dt.date(2020, 1, 1), dt.date(2020, 2, 15), dt.date(1999, 12, 31), None]


def test_all_dates_of_a_subject_move_alike_in_every_column_table_and_type() -> None:
    who = column(*[f"p{i % 40}" for i in range(400)])
    dates = [dt.date(2000, 1, 1) + dt.timedelta(days=i) for i in range(400)]
    moved = mask("date_shift", column(*dates), subjects=who, subject="who").to_pylist()
    shifts: dict[str, set[int]] = {}
    for before, after, person in zip(dates, moved, who.to_pylist(), strict=True):
        shifts.setdefault(person, set()).add((after - before).days)
    assert all(len(days) == 1 for days in shifts.values())
    assert all(1 <= abs(days.copy().pop()) <= 365 for days in shifts.values())
    assert len({tuple(days) for days in shifts.values()}) > 30
    times = [dt.datetime(2000, 1, 1, 13, 14, 15, 16) + dt.timedelta(days=i) for i in range(400)]
    numbered = column(*[person[1:] for person in who.to_pylist()])
    for kind in (pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "Europe/Berlin"), pa.date64()):
        values = pa.chunked_array([pa.array(times, pa.timestamp("us")).cast(kind, safe=False)])
        again = mask("date_shift", values, subjects=who, subject="other name")
        assert again.type == values.type
        for before, after, person in zip(values.to_pylist(), again.to_pylist(), who.to_pylist(), strict=True):
            gone = after.replace(tzinfo=None) - before.replace(tzinfo=None) if isinstance(after, dt.datetime) else after - before
            assert abs(gone - dt.timedelta(days=next(iter(shifts[person])))) <= dt.timedelta(hours=1), (
                "an hour where summer time begins between the two"
            )
    assert mask("date_shift", column(*dates), subjects=numbered, subject="who").to_pylist() != moved


@given(st.lists(st.integers(0, 50), min_size=1, max_size=50), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_a_shift_is_never_zero_nor_beyond_its_bound(people: list[int], days: int) -> None:
    base = dt.date(2000, 1, 1)
    moved = mask("date_shift", column(*[base] * len(people)), subjects=column(*people), subject="who", days=days)
    for after in moved.to_pylist():
        assert 1 <= abs((after - base).days) <= days


def test_every_shift_within_the_bound_occurs_about_as_often() -> None:
    base = dt.date(2000, 1, 1)
    moved = mask("date_shift", column(*[base] * 6000), subjects=column(*range(6000)), subject="who", days=3)
    counts = np.unique([(after - base).days for after in moved.to_pylist()], return_counts=True)
    assert counts[0].tolist() == [-3, -2, -1, 1, 2, 3]
    assert stats.chisquare(counts[1]).pvalue > 1e-4


def test_date_shift_refuses_what_it_cannot_move() -> None:
    with pytest.raises(UsageError, match="whose each row is"):
        mask("date_shift", column(DAYS[0]), subject="who")
    with pytest.raises(UsageError, match="needs dates"):
        mask("date_shift", column("2020-01-01"), subjects=column("a"), subject="who")
    with pytest.raises(InvalidInput, match="1 of 2 rows have a value and no subject"):
        mask("date_shift", column(*DAYS[:2]), subjects=column("a", None), subject="who")
    with pytest.raises(InvalidInput, match="so far away"):
        mask("date_shift", column(*[2**63 - 1, -(2**63)] * 20, kind=pa.timestamp("ns")), subjects=column(*range(40)), subject="who")
    assert mask("date_shift", column(*DAYS), subjects=column("a", "a", "a", None), subject="who").null_count == 1


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.timestamp("s"), pa.timestamp("us", "UTC")])
def test_dates_are_not_moved_out_of_the_calendar(kind: pa.DataType) -> None:
    people = column(*range(20))
    for end, beyond in ((dt.date(9999, 12, 30), 253_402_300_800), (dt.date(1, 1, 2), -62_135_596_801)):
        values = pa.chunked_array([pa.array([end] * 20).cast(pa.timestamp("s")).cast(kind)])
        with pytest.raises(InvalidInput, match="years 1 to 9999"):
            mask("date_shift", values, subjects=people, subject="who", days=30)
        # What lay outside before may stay there.
        outside = pa.chunked_array([pa.array([beyond] * 20, pa.timestamp("s")).cast(kind)])
        mask("date_shift", outside, subjects=people, subject="who", days=30)


# -- noise ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distribution", "law"), [("laplace", stats.laplace), ("gaussian", stats.norm)])
def test_noise_has_the_law_that_it_says(distribution: str, law: Any) -> None:
    values = np.arange(20_000) / 7
    noise = np.array(mask("noise", column(*values), scale=3.0, distribution=distribution).to_pylist()) - values
    assert stats.kstest(noise, law(scale=3.0).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.05


def test_noise_is_the_same_for_a_value_whatever_the_order_and_the_batch() -> None:
    whole = mask("noise", column(1.5, 2.5, 1.5, -0.0, 0.0), scale=1.0).to_pylist()
    assert whole[0] == whole[2] != whole[1]
    assert whole[3] == whole[4]
    assert mask("noise", column(2.5), scale=1.0).to_pylist() == [whole[1]]
    assert mask("noise", column(2.5), scale=1.0, key=bytes(32)).to_pylist() != [whole[1]]
    apart = mask("noise", column(1.5, 1.5), scale=1.0, subjects=column("a", "b"), subject="who").to_pylist()
    assert len({*apart, whole[0]}) == 3


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.int64(), pa.uint8(), pa.float32(), pa.float64(), pa.decimal128(30, 2), pa.dictionary(pa.int32(), pa.int64())], ids=str
)
def test_noise_keeps_the_type_and_its_ends(kind: pa.DataType) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    plain = pa.array([0, 1, None, 100, 120, 5]).cast(value)
    values = pa.chunked_array([plain.dictionary_encode() if pa.types.is_dictionary(kind) else plain])
    masked = mask("noise", values, scale=500.0)
    assert masked.type == kind
    assert masked.to_pylist()[2] is None
    masked.validate(full=True)
    assert masked.to_pylist() != values.to_pylist()


def test_noise_clips_to_its_bounds_and_to_public_ones() -> None:
    values = column(*range(1000))
    clipped = mask("noise", values, scale=1000.0, low=10, high=20).to_pylist()
    assert (min(clipped), max(clipped)) == (10, 20)
    public = Field("c", FieldType.NUMERIC, bounds=(0.0, 5.0))
    operator = BUNDLED["noise"](scale=1000.0, high=3)
    masked = operator.apply(values, public, MaskContext(KEY))
    assert masked is not None
    assert (min(masked.to_pylist()), max(masked.to_pylist())) == (0, 3)
    assert operator.field(public).bounds == (0.0, 3.0)
    assert operator.field(Field("c", FieldType.NUMERIC)).bounds is None


def test_noise_on_what_has_no_number_to_add_to() -> None:
    masked = mask("noise", column(float("nan"), None, float("inf"), 1.0), scale=1.0).to_pylist()
    assert masked[:3] == [None, None, float("inf")]
    with pytest.raises(UsageError, match="needs numbers"):
        mask("noise", column("1"), scale=1.0)
    with pytest.raises(UsageError, match="beyond 2"):
        mask("noise", column(2**60), scale=1.0)


# -- hierarchies and prefixes ---------------------------------------------------------------------------------------------------------------

PLACES = {"Berlin": "Germany", "Bonn": "Germany", "Paris": "France", "Germany": "Europe", "France": "Europe", "Oslo": "Europe"}


def test_whole_numbers_too_large_for_a_bin_are_refused_without_showing_them() -> None:
    with pytest.raises(UsageError, match="Column 'c' holds whole numbers beyond") as caught:
        mask("generalise", column(1, 2**64 - 1, kind=pa.uint64()), width=5)
    assert "1844" not in str(caught.value)


@pytest.mark.parametrize(
    ("level", "expected"),
    [(1, ["Germany", "France", "Europe", "Germany", "Europe", None]), (2, ["Europe"] * 5 + [None]), (9, ["Europe"] * 5 + [None])],
)
def test_values_rise_to_a_level_of_their_hierarchy_and_stay_there(level: int, expected: list[str | None]) -> None:
    values = column("Berlin", "Paris", "Oslo", "Germany", "Europe", None)
    for given_values in (values, values.cast(pa.dictionary(pa.int8(), pa.string()))):
        masked = mask("generalise", given_values, hierarchy=PLACES, level=level)
        assert masked.to_pylist() == expected
        assert mask("generalise", masked, hierarchy=PLACES, level=level).to_pylist() == expected
    shown = BUNDLED["generalise"](hierarchy=PLACES, level=level).field(Field("c", FieldType.TEXT, categories=("Berlin",)))
    assert shown.categories == tuple(sorted({text for text in expected if text}))


def test_values_that_a_hierarchy_does_not_name_are_refused_or_redacted() -> None:
    with pytest.raises(InvalidInput, match="1 distinct values are not in the hierarchy") as caught:
        mask("generalise", column("Rome", "Rome", "Bonn"), hierarchy=PLACES)
    assert "Rome" not in str(caught.value)
    masked = mask("generalise", column("Rome", "Bonn", None), hierarchy=PLACES, unknown="redact")
    assert masked.to_pylist() == ["[REDACTED]", "Germany", None]
    assert mask("generalise", masked, hierarchy=PLACES, unknown="redact").equals(masked)
    assert mask("generalise", column(1, 2), hierarchy={"1": "low", "2": "low"}).to_pylist() == ["low", "low"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_prefixes_in_every_layout_stay_when_masked_again(kind: pa.DataType) -> None:
    values = pa.chunked_array([pa.array(["10115", "101", "", None, "SW1A 1AA", "北京市朝阳区"])]).cast(kind)
    masked = mask("generalise", values, prefix=3)
    assert masked.to_pylist() == ["101*", "101", "", None, "SW1*", "北京市*"]
    assert mask("generalise", masked, prefix=3).to_pylist() == masked.to_pylist()


# -- synthetic ------------------------------------------------------------------------------------------------------------------------------


def one(value: str, entity: str, **given_settings: Any) -> str:
    made: str = mask("synthetic", column(value), entity=entity, **given_settings)[0].as_py()
    assert made != value
    assert mask("synthetic", column("x", value, value, None), entity=entity, **given_settings).to_pylist()[1:] == [made, made, None]
    return made


def shape(text: str) -> str:
    return "".join("9" if c.isdigit() else "a" if c.islower() else "A" if c.isupper() else c for c in text)


@pytest.mark.parametrize("card", ["4111 1111 1111 1111", "378282246310005", "6200-0000-0000-0005", "5555555555554444", "4222222222222"])
def test_a_synthetic_card_is_valid_and_in_a_range_for_tests(card: str) -> None:
    made = one(card, "CREDIT_CARD")
    digits = made.replace(" ", "").replace("-", "")
    assert shape(made) == shape(card)
    assert luhn(digits)
    assert digits.startswith(("411111", "378282", "620000", "555555"))


@pytest.mark.parametrize("account", ["GB29NWBK60161331926819", "DE89 3704 0044 0532 0130 00", "fr1420041010050500013m02606"])
def test_a_synthetic_iban_is_valid_in_its_country(account: str) -> None:
    made = one(account, "IBAN_CODE")
    assert shape(made) == shape(account)
    assert made[:2] == account[:2]
    assert iban(made.replace(" ", "").upper())


@pytest.mark.parametrize(
    ("number", "start"),
    [("+49 30 1234567", "+49 "), ("+1 (212) 555-0100", "+1 ("), ("13812345678", "1"), ("030/123456", "0"), ("+852 1234 5678", "+852 ")],
)
def test_a_synthetic_phone_number_keeps_country_and_format(number: str, start: str) -> None:
    made = one(number, "PHONE_NUMBER")
    assert made.startswith(start)
    assert shape(made) == shape(number)


def test_synthetic_words_keep_script_case_and_form() -> None:
    assert all("\u4e00" <= c <= "\u9fff" for c in one("李小明", "PERSON"))
    assert one("ANN LEE", "PERSON").isupper()
    assert ", " in one("Lee, Ann", "PERSON")
    assert " " not in one("Lee", "PERSON")
    assert one("Ann Lee", "PERSON", locale="de_DE") != one("Ann Lee", "PERSON")
    assert one("ann@firm.de", "EMAIL_ADDRESS").endswith(("@example.com", "@example.net", "@example.org"))
    assert one("https://firm.de/ann", "URL").startswith("https://")
    assert "\n" not in one("1 Main St, Boston", "ADDRESS")
    for entity in ("LOCATION", "ORGANIZATION"):
        assert one("Boston", entity)


def test_synthetic_numbers_of_other_kinds() -> None:
    assert ipaddress.ip_address(one("8.8.8.8", "IP_ADDRESS")) in ipaddress.ip_network("10.0.0.0/8")
    assert ipaddress.ip_address(one("2a00::1", "IP_ADDRESS")) in ipaddress.ip_network("2001:db8::/32")
    assert one("123-45-6789", "US_SSN").startswith("9")
    made = one("110101199003077571", "CN_RESIDENT_ID")
    dt.datetime.strptime(made[6:14], "%Y%m%d")
    assert (sum(int(d) * 2 ** (17 - i) for i, d in enumerate(made[:17])) + (10 if made[17] == "X" else int(made[17]))) % 11 == 1
    for born, form in (("1990-05-17", "%Y-%m-%d"), ("17.05.1990", "%d.%m.%Y"), ("05/17/1990", "%m/%d/%Y"), ("1990年5月17日", "%Y年%m月%d日")):
        dt.datetime.strptime(one(born, "DATE_OF_BIRTH"), form)
    assert shape(one("AB-123 cd", "LICENSE_PLATE")) == shape("AB-123 cd")


@given(
    st.text(max_size=30),
    st.sampled_from(["CREDIT_CARD", "IBAN_CODE", "PHONE_NUMBER", "IP_ADDRESS", "US_SSN", "CN_RESIDENT_ID", "DATE_OF_BIRTH", "OTHER"]),
)
@settings(max_examples=200, deadline=None)
def test_synthetic_never_fails_and_never_gives_the_value_itself(text: str, entity: str) -> None:
    made = mask("synthetic", column(text), entity=entity)[0].as_py()
    assert made != text or text in ("", "[REDACTED]")


def test_synthetic_values_differ_by_key_and_namespace() -> None:
    made = {
        mask("synthetic", column("Ann Lee"), entity="PERSON", namespace=space, key=key)[0].as_py() for space in ("", "a") for key in (KEY, bytes(32))
    }
    assert len(made) == 4


def test_without_faker_kinds_that_need_it_name_the_extra_and_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "faker":
            raise ImportError(name)
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"affidavit\[synthetic\]"):
        mask("synthetic", column("Ann Lee"), entity="PERSON")
    assert luhn(one("4111111111111111", "CREDIT_CARD"))


def test_an_unknown_locale_is_refused() -> None:
    with pytest.raises(UsageError, match="no locale 'xx_XX'"):
        mask("synthetic", column("Ann Lee"), entity="PERSON", locale="xx_XX")
