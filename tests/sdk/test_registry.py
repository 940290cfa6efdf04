"""Versions, aliases and approvals, on SQLite and on PostgreSQL."""

from __future__ import annotations

import multiprocessing

import pytest

from affidavit.errors import UsageError
from affidavit.registry import Version, Versions
from affidavit.store import Store

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def versions(store: Store) -> Versions:
    registry = Versions(store)
    registry.add("credit-risk", A, model_type="tabular.mlp", submitter="ada")
    registry.add("credit-risk", B, model_type="tabular.tree", submitter="bob")
    registry.add("spam", C, model_type="text.classifier", submitter="ada")
    return registry


def test_numbers_count_up_by_name(versions: Versions) -> None:
    assert [str(version) for version in versions.list()] == ["credit-risk:1", "credit-risk:2", "spam:1"]
    assert [version.artifact for version in versions.list("credit-risk")] == [A, B]


@pytest.mark.parametrize(("spec", "artifact"), [("credit-risk:1", A), ("credit-risk:2", B), ("credit-risk", B), ("spam", C)])
def test_a_version_is_found_by_number_or_as_the_latest(versions: Versions, spec: str, artifact: str) -> None:
    found = versions.get(spec)
    assert found.artifact == artifact
    assert versions.get(found) == found
    assert versions.get(str(found)) == found


def test_an_alias_follows_where_it_is_pointed(versions: Versions) -> None:
    assert versions.point("credit-risk", "production", 1).artifact == A
    assert versions.get("credit-risk@production").number == 1
    versions.point("credit-risk", "production", 2)
    versions.point("credit-risk", "staging", 1)
    assert versions.get("credit-risk@production").number == 2
    assert versions.aliases("credit-risk") == {"production": 2, "staging": 1}
    assert versions.aliases("spam") == {}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("credit-risc", r"no registered model 'credit-risc'. Did you mean 'credit-risk'\? Models: credit-risk, spam\."),
        ("", "no registered model ''"),
        ("credit-risk:3", r"no version '3'. It has 1 to 2"),
        ("credit-risk:0", "no version '0'"),
        ("credit-risk:-1", "no version '-1'"),
        ("credit-risk:١", "no version '١'"),
        ("credit-risk:" + "9" * 5000, "no version"),
        ("credit-risk:1:1", "no version '1:1'"),
        ("credit-risk:1@production", "no version"),
        ("credit-risk@producton", r"no alias 'producton'. Did you mean 'production'\?"),
        ("spam@production", "has no alias yet"),
        ("spam\n", "no registered model"),
    ],
)
def test_what_does_not_exist_is_refused_with_what_was_meant(versions: Versions, spec: str, message: str) -> None:
    versions.point("credit-risk", "production", 1)
    with pytest.raises(UsageError, match=message):
        versions.get(spec)


def test_a_version_from_elsewhere_is_refused(versions: Versions) -> None:
    with pytest.raises(UsageError, match="is not the one that this workspace has"):
        versions.get(Version("credit-risk", 1, B, "tabular.mlp", "2020"))


@pytest.mark.parametrize("name", ["", "a:b", "a@b", "../a", "-a", "a b", "x" * 101, "a\n"])
def test_malformed_names_are_refused(versions: Versions, name: str) -> None:
    with pytest.raises(UsageError, match="is no model name"):
        versions.add(name, A, model_type="t", submitter="ada")
    with pytest.raises(UsageError, match="is no alias"):
        versions.point("spam", name, 1)
    with pytest.raises(UsageError, match="is no alias"):
        versions.approve(versions.get("spam"), name, key_fingerprint="k", name="ada", roles=(), signature=b"")


@pytest.mark.parametrize("digest", ["", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_malformed_digests_are_refused(versions: Versions, digest: str) -> None:
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        versions.add("spam", digest, model_type="t", submitter="ada")


def test_an_alias_cannot_point_at_what_does_not_exist(versions: Versions) -> None:
    with pytest.raises(UsageError, match="no version '3'"):
        versions.point("credit-risk", "production", 3)
    assert versions.aliases("credit-risk") == {}


def test_the_submitter_is_kept(versions: Versions) -> None:
    assert versions.submitter(versions.get("credit-risk:1")) == "ada"
    assert versions.submitter(versions.get("credit-risk:2")) == "bob"


def test_approvals_are_kept_by_version_and_alias_one_a_key(versions: Versions) -> None:
    version = versions.get("credit-risk:1")
    versions.approve(version, "production", key_fingerprint="k1", name="eve", roles=("risk", "audit"), signature=b"\x00\xff")
    versions.approve(version, "production", key_fingerprint="k2", name="dan", roles=(), signature=b"2")
    versions.approve(version, "production", key_fingerprint="k1", name="eve", roles=("risk",), signature=b"3")
    versions.approve(version, "staging", key_fingerprint="k1", name="eve", roles=("risk",), signature=b"4")
    found = {approval.key_fingerprint: approval for approval in versions.approvals(version, "production")}
    assert {key: (row.name, row.roles, row.signature) for key, row in found.items()} == {"k1": ("eve", ("risk",), b"3"), "k2": ("dan", (), b"2")}
    assert [approval.signature for approval in versions.approvals(version, "staging")] == [b"4"]
    assert versions.approvals(versions.get("credit-risk:2"), "production") == ()


def add_many(location: str) -> None:
    with Store.open(location) as store:
        for _ in range(10):
            Versions(store).add("busy", A, model_type="t", submitter="ada")


def test_processes_that_register_at_once_get_different_numbers(store_location: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=add_many, args=(store_location,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Store.open(store_location) as store:
        assert [version.number for version in Versions(store).list("busy")] == list(range(1, 21))


def test_names_are_values_and_never_sql(versions: Versions) -> None:
    with pytest.raises(UsageError, match="no registered model"):
        versions.get("x'; DROP TABLE versions; --")
    assert len(versions.list()) == 3
