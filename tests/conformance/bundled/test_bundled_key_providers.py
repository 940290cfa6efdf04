"""Every bundled key provider goes through the conformance kit, with what stands behind it running as far as that is possible here."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from tests.governance.encryption import softhsm, vault_double

from affidavit.plugins import bundled_registry
from affidavit.testing import KeyProviderCase, Outcome, Skip, Tier, check_plugin
from affidavit.testing.kinds.key_provider.subject import variables
from affidavit_governance.encryption.conformance import CASES

NAMES = ["file", "passphrase", "environment", "pkcs11", "aws_kms", "vault"]
NOWHERE = "http://127.0.0.1:1"
KEYS = itertools.count()


@contextlib.contextmanager
def token():
    label = softhsm.token()
    if label is None:
        raise Skip("SoftHSM2 is not installed (Debian's softhsm2)")
    with variables(AFFIDAVIT_PKCS11_MODULE=softhsm.SOFTHSM, AFFIDAVIT_PKCS11_PIN=softhsm.PIN):
        yield {"token": label, "key": f"conformance {next(KEYS)}"}


@contextlib.contextmanager
def kms():
    import boto3
    import moto

    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    with variables(**dict.fromkeys(names, "testing"), AWS_PROFILE=None), moto.mock_aws():
        client = boto3.client("kms", region_name="eu-central-1")
        client.create_alias(AliasName="alias/affidavit", TargetKeyId=client.create_key()["KeyMetadata"]["KeyId"])
        yield {"key_id": "alias/affidavit", "region": "eu-central-1"}


@contextlib.contextmanager
def vault():
    with vault_double.running() as server, variables(VAULT_ADDR=server.address, VAULT_TOKEN=vault_double.TOKEN):
        yield {"key": "affidavit"}


SERVED = [
    KeyProviderCase(name="pkcs11", around=token, lost=lambda: variables(AFFIDAVIT_PKCS11_PIN=None)),
    KeyProviderCase(name="aws_kms", around=kms, lost=lambda: variables(AWS_ENDPOINT_URL_KMS=NOWHERE)),
    KeyProviderCase(name="vault", around=vault, lost=lambda: variables(VAULT_ADDR=NOWHERE)),
]


@pytest.fixture(scope="module")
def results():
    return check_plugin("encryption", cases=SERVED).results


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_key_provider_conforms_and_is_governed(results, name):
    own = [result for result in results if result.subject == f"key provider {name}"]
    assert [f"{result.check}: {result.message}" for result in own if result.outcome not in (Outcome.PASSED, Outcome.SKIPPED)] == []
    absent = {result.message for result in own if result.outcome is Outcome.SKIPPED}
    if absent:
        pytest.skip("; ".join(sorted(absent)))
    assert sum(result.tier is Tier.GOVERNANCE for result in own) == 3


def test_every_bundled_key_provider_is_tried():
    assert set(NAMES) == set(bundled_registry().names("key_provider"))


def test_where_nothing_is_brought_up_those_with_a_server_are_skipped_with_the_reason():
    brought = {case.name: case for case in CASES if isinstance(case, KeyProviderCase)}
    assert set(brought) == set(NAMES)
    for name in ("pkcs11", "aws_kms", "vault"):
        with pytest.raises(Skip, match="give check_plugin a KeyProviderCase"), brought[name].around():
            pass
