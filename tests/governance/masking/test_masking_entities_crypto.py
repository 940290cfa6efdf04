"""Cryptocurrency addresses: the test vectors of the standards, and python-stdnum as a second opinion on Bitcoin's."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import bitcoin

from affidavit_governance.masking import scan_text
from affidavit_governance.masking.recognizers.keccak import keccak_256
from affidavit_governance.masking.recognizers.wallets import base58check, eip55, segwit

# BIP-173 and BIP-350, "Test vectors": valid addresses of the main network.
SEGWIT = [
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "BC1SW50QGDZ25J",
    "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
]
# The same pages: addresses that must be refused, with the reason.
NO_SEGWIT = [
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",  # Bech32 instead of Bech32m
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",  # Bech32 instead of Bech32m
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",  # Bech32m instead of Bech32
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",  # a character that Bech32 has not
    "BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",  # version 17
    "bc1pw5dgrnzv",  # program of one byte
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",  # program of 41 bytes
    "BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",  # version 0 with 16 bytes
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",  # more than four bits of padding
    "bc1gmk9yu",  # no program
    "bc1QW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",  # mixed case
]
# Bitcoin's wiki and block 0; Litecoin's, Dogecoin's and Tron's own documents.
BASE58 = {
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa": "Bitcoin",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2": "Bitcoin",
    "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy": "Bitcoin",
    "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t": "Tron",
}
# EIP-55, "Test cases".
EIP55 = [
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
]
FRAMES = ["{}", "send to {}.", "({})", "转到{}，谢谢", "bitcoin:{}?amount=1", "{}\n"]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("address", [*SEGWIT, *BASE58, *EIP55[:4]])
def test_addresses_with_a_checksum_are_found_for_certain(address: str, frame: str) -> None:
    text = frame.format(address)
    (finding,) = (found for found in scan_text(text) if found.entity == "CRYPTO")
    assert text[finding.start : finding.end] == address
    assert finding.score == 1.0


@pytest.mark.parametrize("address", SEGWIT)
def test_segwit_addresses_of_the_standards_pass(address: str) -> None:
    assert segwit(address) == "Bitcoin"


@pytest.mark.parametrize("address", NO_SEGWIT)
def test_segwit_addresses_that_the_standards_refuse_are_refused(address: str) -> None:
    assert segwit(address) is None
    assert "CRYPTO" not in {finding.entity for finding in scan_text(address)}


@pytest.mark.parametrize(("address", "network"), BASE58.items())
def test_base58_addresses_say_their_network_and_lose_it_with_any_changed_character(address: str, network: str) -> None:
    assert base58check(address) == network
    for place in range(1, len(address)):
        changed = address[:place] + ("2" if address[place] != "2" else "3") + address[place + 1 :]
        assert base58check(changed) is None


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=20, max_size=20), st.sampled_from([0x00, 0x05]), st.booleans())
def test_base58_addresses_are_judged_as_python_stdnum_does(payload: bytes, version: int, spoiled: bool) -> None:
    data = bytes([version]) + payload
    check = hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data + (check[::-1] if spoiled else check), "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[digit] + text
    if version == 0:
        text = "1" * (len(data) - len(data.lstrip(b"\0"))) + text
    assert (base58check(text) == "Bitcoin") == bitcoin.is_valid(text)


def test_capitals_of_ethereum_addresses_are_checked() -> None:
    assert eip55(EIP55) == [True] * len(EIP55)
    for address in EIP55[:4]:
        changed = [address[:i] + address[i].swapcase() + address[i + 1 :] for i in range(2, 42) if address[i].isalpha()]
        assert not any(eip55(changed))
        assert not any(scan_text(each) for each in changed)


def test_an_ethereum_address_without_capitals_is_less_sure_and_words_make_it_surer() -> None:
    small = EIP55[0].lower()
    (alone,) = scan_text(small)
    (named,) = scan_text(f"Ethereum wallet {small}")
    assert (alone.entity, named.entity) == ("CRYPTO", "CRYPTO")
    assert alone.score < named.score < 1


@pytest.mark.parametrize("text", ["0x" + "0" * 40, "0x" + "ab" * 32, "x" + EIP55[0], EIP55[0] + "ff", "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"])
def test_other_hexadecimal_text_is_no_address(text: str) -> None:
    assert "CRYPTO" not in {finding.entity for finding in scan_text(text)}


# The Keccak team's vectors (ShortMsgKAT_256) and Ethereum's yellow paper: the hash of nothing, of "abc", of an event's signature.
KECCAK = {
    b"": "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470",
    b"\xcc": "eead6dbfc7340a56caedc044696a168870549a6a7f6f56961e84a54bd9970b8a",
    b"abc": "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45",
    b"Transfer(address,address,uint256)": "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
}


def test_keccak_gives_the_published_hashes_one_by_one_and_together() -> None:
    assert [digest.hex() for digest in keccak_256(list(KECCAK))] == list(KECCAK.values())
    assert [keccak_256([message])[0].hex() for message in KECCAK] == list(KECCAK.values())
    assert keccak_256([]) == []


def test_keccak_takes_one_block() -> None:
    assert len(keccak_256([b"a" * 135])[0]) == 32
    with pytest.raises(ValueError, match="135 bytes"):
        keccak_256([b"a" * 136])
