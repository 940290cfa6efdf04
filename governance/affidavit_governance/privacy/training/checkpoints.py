"""Checkpoints of a private run, and the count of its steps that survives the death of its process.

A folder holds three files. ``checkpoint.json`` says what the run is (so that no other run goes on with it), what it released and how far its
weights are; ``weights-….safetensors`` holds the module's and the optimizer's tensors; ``steps`` counts the steps whose noise was drawn, also
those since the last checkpoint. All of this is private output once its steps are paid for. The key of the run's randomness is in none of
them: whoever had it could draw the noise again and take it off the weights. A run that goes on therefore draws from a new key.

Steps since the last checkpoint were taken, and are lost. They stay counted and are not taken again: the run goes on with the step after the
last one counted, from older weights, so that it ends with the planned number of steps and the ε that was reserved for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affidavit.artifacts import canonical_json
from affidavit.errors import IntegrityError, Refused, UsageError
from affidavit.interfaces.governance import JSON
from affidavit.store.files import FolderFiles

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
SECONDS = 5.0
"""Least time between two checkpoints of one run."""

SHARE = 0.05
"""Share of a run's time that writing checkpoints may take."""

AHEAD = 64
"""Steps that are claimed on the disk itself before the first of them; a crash of the whole machine costs as many at most."""

_NAME, _STEPS = "checkpoint.json", "steps"
_COUNT = struct.Struct("<QQ16s")


class Checkpoint:
    """One run's checkpoint. Opening it locks the folder until `close`.

    Parameters
    ----------
    folder
        Made where it is missing. A folder without a checkpoint begins a run, one with a checkpoint goes on with it.
    identity
        What the run is: model, data, policy. Compared with what the checkpoint's run was.

    Attributes
    ----------
    state
        What the run's last checkpoint says, None where there is none yet.
    taken
        Steps that count as taken, lost ones included.

    Raises
    ------
    UsageError
        Another process is training with this folder.
    Refused
        The checkpoint belongs to another run; the message names what differs.
    IntegrityError
        The checkpoint was damaged, or written by a newer version.
    """

    def __init__(self, folder: Path, identity: Mapping[str, JSON]) -> None:
        self._files = FolderFiles(folder)
        self._folder, self._identity = folder, json.loads(canonical_json(identity, "What the run is"))
        self._boot = _boot()
        self._steps = os.open(folder / _STEPS, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._lock()
            self.state = self._read()
            self._files.recover()
            if self.state is None or self.state["loop"] is None:
                self._write_count(0, 0, sync=True)
            self.taken, self._claimed = self._counted()
        except BaseException:
            os.close(self._steps)
            raise
        self._saved, self._cost = time.monotonic(), 0.0

    def _lock(self) -> None:
        try:
            fcntl.flock(self._steps, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Wait for its end, or take a folder of its own."
            raise UsageError(f"Another process is training with the checkpoint '{self._folder}'.", hint=hint) from None

    def _read(self) -> dict[str, Any] | None:
        try:
            data = self._files.read(_NAME)
        except KeyError:
            return None
        try:
            state = json.loads(data)
            digest = state.pop("digest")
            version = int(state["format"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self._damaged("cannot be read") from None
        if version > FORMAT:
            message = f"The checkpoint '{self._folder}' has format {version}; this version reads up to {FORMAT}."
            raise IntegrityError(message, hint="Update affidavit.")
        if digest != _digest(state):
            raise self._damaged("does not have its digest")
        differing = sorted(name for name in {*state["identity"], *self._identity} if state["identity"].get(name) != self._identity.get(name))
        if differing:
            raise Refused(
                f"The checkpoint '{self._folder}' belongs to another run: {', '.join(differing)} differ.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Train with what that run had, or name another folder.",
            )
        found: dict[str, Any] = state
        return found

    def _counted(self) -> tuple[int, int]:
        """Steps taken, and steps claimed on the disk."""
        data = os.pread(self._steps, _COUNT.size + 1, 0)
        if len(data) != _COUNT.size:
            raise self._damaged("has lost its count of steps")
        if self.state is None or self.state["loop"] is None:
            return 0, 0
        count, claimed, boot = _COUNT.unpack(data)
        # The count is in the system's memory until the system writes it: it survives the process, and after a crash of the machine the claim holds.
        taken = count if boot == self._boot != bytes(16) else max(count, claimed)
        loop = self.state["loop"]
        if loop["taken"] > taken:
            raise self._damaged("counts fewer steps than its weights have")
        return min(taken, loop["planned"]), claimed

    def _damaged(self, how: str) -> IntegrityError:
        hint = "Its run cannot go on. Settle what it had reserved with 'affidavit budget', and train with another folder."
        return IntegrityError(f"The checkpoint '{self._folder}' {how}.", hint=hint)

    # -- writing ----------------------------------------------------------------------------------------------------------------------

    def count(self, step: int) -> None:
        """Note that `step` counts as taken. To be called before its noise is drawn."""
        claim = step > self._claimed
        self._write_count(step, step - 1 + AHEAD if claim else self._claimed, sync=claim)
        self.taken = step

    def _write_count(self, count: int, claimed: int, *, sync: bool) -> None:
        os.pwrite(self._steps, _COUNT.pack(count, claimed, self._boot), 0)
        if sync:
            os.fsync(self._steps)
        self._claimed = claimed

    @property
    def due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved >= max(SECONDS, self._cost / SHARE)

    def save(self, state: Mapping[str, JSON], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Write a checkpoint in the place of the last one, which stands until the new one is on the disk whole.

        Parameters
        ----------
        state
            What the run released and how far it is; ``loop`` is None before the first step.
        tensors
            All that the next steps depend on; None before the first step.
        """
        began = time.monotonic()
        weights = None
        if tensors is not None:
            from safetensors.torch import save

            # Copies, because parts of one memory cannot be written under two names.
            data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
            digest = hashlib.sha256(data).hexdigest()
            weights = {"file": f"weights-{digest[:16]}.safetensors", "sha256": digest}
            self._files.write(str(weights["file"]), data)
        self._write({**state, "format": FORMAT, "identity": self._identity, "weights": weights})
        for name in self._files.list("weights-"):
            if weights is None or name != weights["file"]:
                self._files.delete(name)
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def amend(self, changes: Mapping[str, JSON]) -> None:
        """Change entries of the last checkpoint's state; its tensors stand."""
        self._write({**(self.state or {}), **changes})

    def _write(self, state: dict[str, Any]) -> None:
        self._files.write(_NAME, canonical_json({**state, "digest": _digest(state)}, "The checkpoint"))
        self.state = json.loads(canonical_json(state, "The checkpoint"))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the last checkpoint. Raises IntegrityError where they are not those that were saved."""
        from safetensors.torch import load

        weights = self.state and self.state["weights"]
        try:
            data = self._files.read(weights["file"]) if weights else b""
        except KeyError:
            data = b""
        if not weights or hashlib.sha256(data).hexdigest() != weights["sha256"]:
            raise self._damaged("has other weights than it says")
        found: dict[str, Tensor] = load(data)
        return found

    # -- the end ----------------------------------------------------------------------------------------------------------------------

    def remove(self) -> None:
        """Delete the checkpoint of a run that ended."""
        self._files.delete(_NAME)
        for name in (*self._files.list("weights-"), _STEPS):
            self._files.delete(name)
        self.close()

    def close(self) -> None:
        """Give the folder free; calling it twice is harmless."""
        if self._steps >= 0:
            os.close(self._steps)
            self._steps = -1


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(state, "The checkpoint")).hexdigest()


def _boot() -> bytes:
    """What tells one start of this machine from another; zeros where the system does not say."""
    try:
        return bytes.fromhex(Path("/proc/sys/kernel/random/boot_id").read_text().replace("-", ""))
    except (OSError, ValueError):
        return bytes(16)
