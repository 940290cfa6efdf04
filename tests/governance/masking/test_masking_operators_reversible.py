"""Tokens, vault and format-preserving encryption: back and forth, joins, and everything that must not open."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affidavit.errors import IntegrityError, InvalidInput, Refused, UsageError
from affidavit.interfaces.masking import MaskContext, Operator
from affidavit.interfaces.schema import Field, FieldType
from affidavit_governance.masking.operators.catalogue import BUNDLED
from affidavit_governance.masking.operators.token import PATTERN
from affidavit_governance.masking.operators.vaulted import PATTERN as VAULT_PATTERN

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
CARD, IBAN = "4111 1111-1111/1111", "GB29NWBK60161331926819"


class MemoryVault:
    """The vault's protocol, kept in memory; it counts how often it is asked."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str | None, bytes], bytes] = {}
        self.behind: dict[tuple[str, bytes], bytes] = {}
        self.asked = 0

    def tokens(self, values: Sequence[bytes], *, namespace: str, subjects: Sequence[str | None] | None = None) -> list[bytes]:
        self.asked += 1
        found = []
        for value, owner in zip(values, subjects or [None] * len(values), strict=True):
            token = self.known.setdefault((namespace, owner, value), os.urandom(16))
            self.behind[namespace, token] = value
            found.append(token)
        return found

    def values(self, tokens: Sequence[bytes], *, namespace: str) -> list[bytes]:
        missing = sum((namespace, token) not in self.behind for token in tokens)
        if missing:
            raise IntegrityError(f"{missing} tokens are not in the vault.")
        return [self.behind[namespace, token] for token in tokens]


class MemoryKeys:
    """The protocol of subjects' keys, kept in memory."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.destroyed: set[str] = set()

    def keys(self, subjects: Sequence[str], *, create: bool = True) -> list[bytes]:
        gone = sum(subject in self.destroyed for subject in subjects)
        if gone:
            raise Refused(f"The keys of {gone} subjects were destroyed.", by="masking", line="masking")
        return [self.held.setdefault(subject, os.urandom(32)) for subject in subjects]


VAULT = MemoryVault()


def context(**changes: Any) -> MaskContext:
    return MaskContext(**{"key": KEY, "table": "payments", "vault": VAULT, **changes})


def column(*values: Any, kind: Any = None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, kind)])


def field(name: str = "card") -> Field:
    return Field(name, FieldType.TEXT)


def mask(operator: Operator, values: pa.ChunkedArray, name: str = "card", **changes: Any) -> pa.ChunkedArray:
    masked = operator.apply(values, field(name), context(**changes))
    assert masked is not None
    return masked


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("token", {}),
    ("token", {"namespace": "customers"}),
    ("vault", {}),
    ("vault", {"namespace": "customers"}),
    ("ff1", {"short": "redact"}),
    ("ff1", {"namespace": "customers", "alphabet": "0123456789abcdefghijklmnopqrstuvwxyz", "short": "redact"}),
]


@pytest.mark.parametrize(("name", "given_settings"), WAYS[:4])
@given(st.lists(st.one_of(st.none(), st.text(max_size=40), st.sampled_from([CARD, IBAN, "", "tok1_", "vlt1_" + "a" * 32])), max_size=30))
@settings(max_examples=60, deadline=None)
def test_reveal_of_mask_is_the_original_for_any_text(name: str, given_settings: dict[str, Any], texts: list[str | None]) -> None:
    operator = BUNDLED[name](**given_settings)
    values = pa.chunked_array([pa.array(texts, pa.string())])
    masked = mask(operator, values)
    assert operator.reverse(masked, field(), context()).equals(values)
    assert mask(operator, masked).equals(masked)
    texts_hidden = [text for text in texts if text]
    assert not set(texts_hidden) & set(masked.to_pylist())


@given(
    st.lists(st.one_of(st.none(), st.just(""), st.text("0123456789 -./é中\U0001f600ABC", min_size=1, max_size=60)), max_size=30),
    st.sampled_from([None, "", "shared"]),
    st.sampled_from(["0123456789", "9876543210", "0123456789ABC", "中é\U0001f600-ABC"]),
)
@settings(max_examples=150, deadline=None)
def test_format_preserving_encryption_goes_back_and_keeps_the_form(texts: list[str | None], namespace: str | None, alphabet: str) -> None:
    operator = BUNDLED["ff1"](namespace=namespace, alphabet=alphabet, short="redact")
    values = pa.chunked_array([pa.array(texts, pa.string())])
    masked = mask(operator, values)
    back = operator.reverse(masked, field(), context()).to_pylist()
    for before, after, again in zip(texts, masked.to_pylist(), back, strict=True):
        if before and after != "[REDACTED]":
            assert [c if c not in alphabet else None for c in before] == [c if c not in alphabet else None for c in after]
            assert again == before
            assert len(alphabet) ** sum(c in alphabet for c in before) >= 10**6
        elif before:
            assert len(alphabet) ** sum(c in alphabet for c in before) < 10**6
            assert again == "[REDACTED]"
        else:
            assert after == before == again


def test_a_card_keeps_its_length_and_separators() -> None:
    masked = mask(BUNDLED["ff1"](), column(CARD, "+49 (30) 123-456"))
    assert [[c if not c.isdigit() else "9" for c in text] for text in masked.to_pylist()] == [list("9999 9999-9999/9999"), list("+99 (99) 999-999")]
    assert masked.to_pylist() != [CARD, "+49 (30) 123-456"]


# -- joins ----------------------------------------------------------------------------------------------------------------------------------

PEOPLE: dict[str, Any] = {"namespace": "people"}
JOINED: list[tuple[str, dict[str, Any]]] = [
    *(("pseudonym", {}), ("token", {}), ("token", PEOPLE), ("vault", {}), ("vault", PEOPLE), ("ff1", {**PEOPLE, "short": "redact"})),
]


@pytest.mark.parametrize(("name", "given_settings"), JOINED)
@given(
    st.lists(st.one_of(st.none(), st.integers(10**6, 10**6 + 30)), max_size=40),
    st.lists(st.one_of(st.none(), st.integers(10**6, 10**6 + 30)), max_size=40),
)
@settings(max_examples=40, deadline=None)
def test_a_join_on_masked_keys_is_the_join_on_the_originals(
    name: str, given_settings: dict[str, Any], left: list[int | None], right: list[int | None]
) -> None:
    """The tables have other names and Arrow types; the columns have one name, or others and one namespace."""
    rows = {"l": pa.table({"k": pa.array([None if v is None else str(v) for v in left], pa.string()), "l": pa.array(range(len(left)), pa.int64())})}
    rows["r"] = pa.table({"k": pa.array([None if v is None else str(v) for v in right], pa.string()), "r": pa.array(range(len(right)), pa.int64())})
    kinds = {"l": pa.int64(), "r": pa.dictionary(pa.int8(), pa.string())}
    masked = {}
    for side, table in rows.items():
        made = mask(BUNDLED[name](**given_settings), table["k"].cast(kinds[side]), f"key {side}" if given_settings else "key", table=f"table {side}")
        masked[side] = table.set_column(0, "k", made.cast(pa.string()))

    def joined(tables: dict[str, pa.Table]) -> list[tuple[int, int]]:
        result = tables["l"].join(tables["r"], "k", join_type="inner")
        return sorted(zip(result["l"].to_pylist(), result["r"].to_pylist(), strict=True))

    assert joined(masked) == joined(rows)


def test_format_preserving_encryption_is_bound_to_table_and_column_unless_a_namespace_joins_them() -> None:
    values = column(CARD)
    alone = BUNDLED["ff1"]()
    made = {mask(alone, values, name, table=table)[0].as_py() for name in ("a", "b") for table in ("s", "t")}
    assert len(made) == 4
    shared = BUNDLED["ff1"](namespace="cards")
    assert len({mask(shared, values, name, table=table)[0].as_py() for name in ("a", "b") for table in ("s", "t")}) == 1
    assert mask(BUNDLED["ff1"](namespace="others"), values)[0] != mask(shared, values)[0]
    assert mask(alone, values, "c", table="ab")[0] != mask(alone, values, "bc", table="a")[0]


def test_namespaces_and_tenants_keep_tokens_apart() -> None:
    for name in ("pseudonym", "token", "vault"):
        made = {
            mask(BUNDLED[name](namespace=space), column(CARD), vault=MemoryVault(), key=key)[0].as_py()
            for space in ("", "a")
            for key in (KEY, OTHER_KEY)
        }
        assert len(made) == 4


def test_a_value_in_a_text_gets_the_token_that_it_has_in_a_table() -> None:
    """What a span in free text is: an array of findings, the entity as field, no table; as a column is that the line of its entity masks."""
    for name in ("pseudonym", "token", "vault"):
        for given_settings, column_name in (({}, "IBAN_CODE"), (PEOPLE, "card")):
            operator = BUNDLED[name](**given_settings)
            span = operator.apply(column(IBAN), field("IBAN_CODE"), context(table=""))
            assert span is not None
            assert span.to_pylist() == mask(operator, column(IBAN, kind=pa.large_string()), column_name).to_pylist()


@pytest.mark.parametrize("name", ["token", "vault"])
def test_a_token_of_another_column_does_not_open(name: str) -> None:
    operator = BUNDLED[name]()
    theirs = mask(operator, column(CARD), "ssn")
    assert theirs != mask(operator, column(CARD), "card")
    with pytest.raises(IntegrityError, match="'card': 1 of 1 values are no token"):
        operator.reverse(theirs, field("card"), context())
    assert operator.reverse(theirs, field("ssn"), context(table="elsewhere")).to_pylist() == [CARD]


# -- what must not open ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "vault"])
def test_changed_foreign_and_plain_values_are_refused_by_column_and_count(name: str) -> None:
    operator = BUNDLED[name]()
    good = mask(operator, column(CARD, IBAN)).to_pylist()
    flipped = good[0][:-3] + ("a" if good[0][-3] != "a" else "b") + good[0][-2:]
    foreign = mask(BUNDLED[name](namespace="x"), column(CARD))[0].as_py()
    tenant = mask(operator, column(CARD), key=OTHER_KEY)[0].as_py()
    for bad in (flipped, foreign, tenant, CARD, good[0][:-1], good[0] + "a", good[0].upper(), good[0][5:], ""):
        with pytest.raises(IntegrityError, match=r"'card': 2 of 5 values are no token") as caught:
            operator.reverse(column(good[0], bad, None, good[1], bad), field(), context())
        assert CARD not in str(caught.value)
        assert bad == "" or bad not in str(caught.value)
    with pytest.raises(IntegrityError, match="'card': 2 of 2"):
        operator.reverse(column(*good), field(), context(key=OTHER_KEY))
    assert operator.reverse(column(*good), field(), context()).to_pylist() == [CARD, IBAN]


def test_every_letter_of_a_token_counts() -> None:
    operator = BUNDLED["token"]()
    for value in ("", "a", "ab", "abc", "abcd", "abcde"):
        good = mask(operator, column(value))[0].as_py()
        for place in range(len(good)):
            for letter in "ab7":
                if good[place] != letter:
                    with pytest.raises(IntegrityError):
                        operator.reverse(column(good[:place] + letter + good[place + 1 :]), field(), context())


def test_what_looks_like_a_token_and_is_none_is_masked_as_any_value() -> None:
    lookalikes = ["tok1_" + "a" * 26, "tok1_" + "b" * 40, "vlt1_" + "a" * 32, "vlt1_x", "tok1_"]
    for name, pattern in (("token", PATTERN), ("vault", VAULT_PATTERN)):
        made = mask(BUNDLED[name](), column(*lookalikes)).to_pylist()
        assert not set(made) & set(lookalikes)
        assert all(pattern.fullmatch(text) for text in made)


def test_format_preserving_encryption_answers_wrong_keys_with_wrong_values() -> None:
    """FF1 authenticates nothing; only what cannot be its result is refused."""
    operator = BUNDLED["ff1"]()
    masked = mask(operator, column(CARD))
    wrong = operator.reverse(masked, field(), context(key=OTHER_KEY)).to_pylist()
    assert wrong != [CARD]
    assert operator.reverse(masked, field("other"), context()).to_pylist() != [CARD]
    with pytest.raises(IntegrityError, match="'card': 2 of 3 values cannot come from"):
        operator.reverse(column("12345", CARD, "no digits"), field(), context())


@pytest.mark.parametrize("short", ["12345", "a", "٣٣٣٣٣٣٣٣", "123456 ４"])
def test_values_that_could_be_found_by_trying_are_refused_or_redacted(short: str) -> None:
    """Under a million possibilities; or digits of another script, which would stay readable."""
    with pytest.raises(InvalidInput, match="'card': 2 of 4 values have fewer than 6") as caught:
        mask(BUNDLED["ff1"](), column(CARD, short, None, short))
    assert len(short) == 1 or short not in str(caught.value)
    made = mask(BUNDLED["ff1"](short="redact"), column(CARD, short, None, "")).to_pylist()
    assert made[1:] == ["[REDACTED]", None, ""]


def test_reversible_operators_refuse_bytes_that_are_no_text() -> None:
    for name in ("token", "vault", "ff1"):
        with pytest.raises(InvalidInput, match="'card' holds bytes that are not UTF-8"):
            mask(BUNDLED[name](), column(b"\xff\xfe", kind=pa.binary()))


def test_numbers_dates_and_bytes_come_back_as_text() -> None:
    for values, expected in (
        (column(5, None), ["5", None]),
        (column(2.5, 5.0), ["2.5", "5"]),
        (column(b"ab"), ["ab"]),
        (column(True), ["True"]),
    ):
        for name in ("token", "vault"):
            operator = BUNDLED[name]()
            assert operator.reverse(mask(operator, values), field(), context()).to_pylist() == expected


def test_operators_that_cannot_go_back_say_so() -> None:
    for name in ("redact", "pseudonym", "partial"):
        assert not BUNDLED[name].reversible
        with pytest.raises(UsageError, match="cannot be revealed"):
            BUNDLED[name]().reverse(column("x"), field(), context())


# -- vault and subjects ---------------------------------------------------------------------------------------------------------------------


def test_outside_a_workspace_vault_and_subjects_keys_are_refused() -> None:
    owners = column("ann")
    for operator in (BUNDLED["vault"](), BUNDLED["token"](subject="who")):
        with pytest.raises(Refused, match="kept by a workspace") as caught:
            mask(operator, column(CARD), vault=None, subjects=owners)
        assert caught.value.line == "masking.fields.card"


def test_the_vault_is_asked_once_for_each_distinct_value() -> None:
    vault = MemoryVault()
    masked = mask(BUNDLED["vault"](), column(*[CARD, IBAN, None] * 50), vault=vault)
    assert vault.asked == 1
    assert len(vault.known) == 2
    assert len(set(masked.to_pylist())) == 3
    assert len(masked[0].as_py()) == 37, "the token's length says nothing about the value's"


def test_a_destroyed_subjects_key_makes_their_tokens_unreadable_and_no_others() -> None:
    keys = MemoryKeys()
    owners = column("ann", "bob", "ann", "bob")
    operator = BUNDLED["token"](subject="who")
    with_keys: dict[str, Any] = {"subject_keys": keys, "subjects": owners}
    masked = mask(operator, column(CARD, CARD, CARD, None), **with_keys)
    first, second, third, fourth = masked.to_pylist()
    assert first == third != second
    assert fourth is None
    assert operator.reverse(masked, field(), context(**with_keys)).to_pylist() == [CARD, CARD, CARD, None]
    assert mask(operator, masked, **with_keys).equals(masked)
    swapped = column("bob", "ann", "bob", "ann")
    with pytest.raises(IntegrityError, match="3 of 4"):
        operator.reverse(masked, field(), context(subject_keys=keys, subjects=swapped))
    with pytest.raises(IntegrityError):
        BUNDLED["token"]().reverse(masked, field(), context())
    keys.destroyed.add("ann")
    with pytest.raises(Refused, match="destroyed"):
        operator.reverse(masked, field(), context(**with_keys))
    bobs = operator.reverse(column(second), field(), context(subject_keys=keys, subjects=column("bob")))
    assert bobs.to_pylist() == [CARD]
    fresh = MemoryKeys()
    with pytest.raises(IntegrityError, match="1 of 1"):
        operator.reverse(column(first), field(), context(subject_keys=fresh, subjects=column("ann")))


@given(st.lists(st.tuples(st.one_of(st.none(), st.text(max_size=20)), st.sampled_from(["ann", "bob", "é"])), max_size=30))
@settings(max_examples=60, deadline=None)
def test_tokens_of_many_subjects_come_back(rows: list[tuple[str | None, str]]) -> None:
    keys = MemoryKeys()
    values = pa.chunked_array([pa.array([value for value, _ in rows], pa.string())])
    owners = pa.chunked_array([pa.array([owner for _, owner in rows], pa.string())])
    for operator in (BUNDLED["token"](subject="who"), BUNDLED["vault"](subject="who")):
        masked = mask(operator, values, subject_keys=keys, subjects=owners)
        assert operator.reverse(masked, field(), context(subject_keys=keys, subjects=owners)).equals(values)
        pairs = {(value, owner) for value, owner in rows if value is not None}
        assert len({token for token in masked.to_pylist() if token is not None}) == len(pairs)


def test_rows_without_a_subject_are_refused_with_their_count() -> None:
    operator = BUNDLED["token"](subject="who")
    for changes, words in (({"subjects": None}, "whose each row is"), ({"subjects": column("ann")}, "2 rows, and 1 subjects")):
        with pytest.raises(UsageError, match=words):
            mask(operator, column(CARD, IBAN), subject_keys=MemoryKeys(), **changes)
    with pytest.raises(InvalidInput, match="1 of 3 rows have a value and no subject"):
        mask(operator, column(CARD, IBAN, None), subject_keys=MemoryKeys(), subjects=column("ann", None, None))
