"""kill -9 in the middle of writes: the next open always works, and everything readable is whole."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from affidavit.registry import Versions
from affidavit.store import Objects, Store
from affidavit_governance.encryption import open_keyring

KILLS = 10
FORK = multiprocessing.get_context("fork")  # a child that need not import everything again

PAIRS = sa.MetaData()
PAIR = sa.Table("pairs", PAIRS, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Integer, nullable=False))


def content(step: int) -> bytes:
    return step.to_bytes(4, "big") * 20_000


def write_on(location: str, step: int, sender: Any) -> None:
    """Write steps of everything, and say after each step that it is done."""
    store = Store.open(location)
    objects, versions = Objects(store, open_keyring(store)), Versions(store)
    store.ensure(PAIRS, "pairs", 1)
    while True:
        step += 1
        store.files.write("value", content(step))
        digest = objects.put(content(step), purpose="artifact")
        versions.add("model", digest, model_type="test", submitter="me")
        versions.point("model", "latest", step)
        with store.write() as connection:
            for name in ("left", "right"):
                connection.execute(PAIR.delete().where(PAIR.c.name == name))
                connection.execute(PAIR.insert().values(name=name, value=step))
        sender.send(step)


def check(location: str, acknowledged: int) -> int:
    """Open, read everything, and give the number of the last version."""
    with Store.open(location) as store:
        objects, versions = Objects(store, open_keyring(store)), Versions(store)
        value = store.files.read("value")
        step = int.from_bytes(value[:4], "big")
        assert value == content(step)
        assert step >= acknowledged
        names = store.files.list("objects/")
        digests = {name.split("/")[-2] + name.split("/")[-1] for name in names}
        assert digests <= {hashlib.sha256(content(number)).hexdigest() for number in range(1, step + 1)}
        listed = versions.list("model")
        assert [version.number for version in listed] == list(range(1, len(listed) + 1))
        assert acknowledged <= len(listed) <= step
        for version in listed:
            assert objects.get(version.artifact, purpose="artifact") == content(version.number)
        assert acknowledged <= versions.get("model@latest").number <= len(listed)
        store.ensure(PAIRS, "pairs", 1)
        with store.read() as connection:
            pair = dict(connection.execute(sa.select(PAIR)).all())
        assert pair["left"] == pair["right"] >= acknowledged
        return len(listed)


def test_a_workspace_outlives_ten_kills(store_location: str) -> None:
    chance = random.Random(store_location.startswith("postgresql"))
    done = 0
    for _ in range(KILLS):
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=write_on, args=(store_location, done, sender))
        child.start()
        sender.close()  # so that a child that fails ends our waiting
        acknowledged = receiver.recv()
        deadline = time.monotonic() + chance.uniform(0, 0.1)
        while time.monotonic() < deadline:
            if receiver.poll(0.001):
                acknowledged = receiver.recv()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        done = check(store_location, acknowledged)
        clean_up(store_location, done)
    assert done >= KILLS


def clean_up(location: str, done: int) -> None:
    """Bring file and pair to the last version, as the next child counts on from there."""
    with Store.open(location) as store:
        store.files.write("value", content(done))
        with store.write() as connection:
            connection.execute(PAIR.update().values(value=done))
        Versions(store).point("model", "latest", done)


def make_on(folder: Path, sender: Any) -> None:
    number = 0
    while True:
        with Store.open(folder / f"ws{number}") as store:
            sender.send(open_keyring(store).verifier_key)
        number += 1


@pytest.mark.parametrize("seed", range(5))
def test_a_workspace_killed_while_it_is_made_can_be_opened_with_the_keys_it_gave_out(tmp_path: Path, seed: int) -> None:
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=make_on, args=(tmp_path, sender))
    child.start()
    sender.close()
    given = [receiver.recv()]
    deadline = time.monotonic() + random.Random(seed).uniform(0, 0.15)
    while time.monotonic() < deadline:
        if receiver.poll(0.001):
            given.append(receiver.recv())
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with contextlib.suppress(EOFError):
        while True:
            given.append(receiver.recv())
    folders = sorted(tmp_path.iterdir(), key=lambda path: int(path.name[2:]))
    opened = []
    for folder in folders:
        with Store.open(folder) as store:
            opened.append(open_keyring(store).verifier_key)
    assert opened[: len(given)] == given
    assert len(opened) <= len(given) + 1  # one cut short
