"""kill -9 in the middle of rotation, re-wrapping, destroying and a change of provider: everything stays readable, and the next run goes on."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from datetime import timedelta
from typing import Any

import pytest
from keys_workspace import close, fill, open_workspace, read_all

from affidavit_governance.encryption import rotation

KILLS = 8
THINGS = 40
FORK = multiprocessing.get_context("fork")  # a child that need not import everything again


def work_on(location: str, sender: Any) -> None:
    """Rotate, re-wrap in small batches, destroy and change the provider, again and again."""
    rotation.BATCH, rotation.GRACE = 7, timedelta(0)
    workspace = open_workspace(location)
    keys = workspace.keys
    sender.send("open")
    while True:
        keys.rotate()
        keys.rewrap()
        for version in keys.status()["versions"]:
            if version["state"] == "retired" and version["objects"] == 0:
                keys.destroy(version["version"])
        keys.provide("file" if workspace.keyring.file.type == "environment" else "environment", {})
        sender.send("round")


def test_everything_stays_readable_whenever_a_rotation_is_killed(store_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = open_workspace(store_location)
    identity = workspace.keyring.verifier_key
    fill(workspace, THINGS)
    close(workspace)
    monkeypatch.setenv("AFFIDAVIT_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    chance = random.Random(store_location.startswith("postgresql"))
    rotations = 0
    for _ in range(KILLS):
        receiver, sender = FORK.Pipe(duplex=False)
        child = FORK.Process(target=work_on, args=(store_location, sender))
        child.start()
        sender.close()  # so that a child that fails ends our waiting
        assert receiver.recv() == "open"
        deadline = time.monotonic() + chance.uniform(0, 0.25)
        while time.monotonic() < deadline:
            if receiver.poll(0.001):
                receiver.recv()  # raises where the child has failed
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        workspace = open_workspace(store_location)
        assert workspace.keyring.verifier_key == identity
        read_all(workspace, THINGS)
        done = [evidence.predicate for evidence in workspace.ledger.entries("key")]
        # Evidence and keys are of one transaction: as many rotations are told of as there are versions.
        versions = workspace.keyring.secrets.versions
        assert 1 + sum(said["action"] == "rotate" for said in done) == len(versions)
        assert sum(said["action"] == "destroy" for said in done) == sum(version.state == "destroyed" for version in versions)
        rotations = len(versions)
        close(workspace)
    assert rotations > 1
    workspace = open_workspace(store_location)
    workspace.keys.rewrap()
    left = {version["version"]: version["objects"] for version in workspace.keys.status()["versions"]}
    assert {number for number, objects in left.items() if objects} == {max(left)}
    read_all(workspace, THINGS)
    close(workspace)
