"""One private run in several processes of torch.distributed, all of which know all rows.

Each process draws the same batch, from a key that the first one made, and takes every size-th row of it; a share may be empty. The clipped sums
go to the first process, which alone adds the noise, once, and sends the noisy sums to all. So the release is that of one process, whatever
the number of processes: the same batches, the same ε, the same result but for the order of a sum. No other process ever has the noise's key.

All processes must be given the same rows in the same order: a row's index decides who draws it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from affidavit.errors import PluginError, UsageError


class Ranks:
    """The processes of a run; by default those of torch.distributed's default group.

    Attributes
    ----------
    rank, size
        This process's number, from 0, and how many there are.

    Raises
    ------
    UsageError
        torch.distributed was not initialised.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None) -> None:
        if not distributed.is_available() or not distributed.is_initialized():
            raise UsageError("Training in several processes needs a process group.", hint="Call torch.distributed.init_process_group first.")
        self._group = group
        self.rank, self.size = distributed.get_rank(group), distributed.get_world_size(group)

    @property
    def first(self) -> bool:
        """Whether this is the process that makes noise and reserves budget."""
        return self.rank == 0

    def share(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """This process's part of a batch."""
        return indices[self.rank :: self.size]

    def check_same(self, what: str, data: bytes) -> None:
        """Raise PluginError in every process unless `data` is the same in all."""
        own = torch.frombuffer(bytearray(hashlib.sha256(data).digest()), dtype=torch.uint8)
        found = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own, group=self._group)
        differing = [rank for rank, digest in enumerate(found) if not torch.equal(digest, found[0])]
        if differing:
            raise PluginError(
                f"The processes of this training do not agree on {what}: {', '.join(f'process {rank}' for rank in differing)} and process 0 differ.",
                hint="Start all of them with the same rows, parameters and policy.",
            )

    def first_does(self, work: Callable[[], None]) -> None:
        """Do `work` in the first process; where it raises there, the others raise PluginError."""
        try:
            if self.first:
                work()
        except BaseException:
            self._any(True)
            raise
        if self._any(False):
            raise PluginError("The first process of this training refused or failed; its message says why.")

    def agree(self, failed: bool, number: int) -> int:
        """The sum of `number` over all processes. Raises PluginError where another one failed, so that none waits for it."""
        status = torch.tensor([int(failed), number])
        distributed.all_reduce(status, group=self._group)
        if int(status[0]) and not failed:
            raise PluginError("Another process of this training failed; its message says why.")
        return int(status[1])

    def _any(self, failed: bool) -> bool:
        status = torch.tensor([int(failed)])
        distributed.all_reduce(status, group=self._group)
        return bool(status[0])

    def new_key(self, make: Callable[[], bytes]) -> bytes:
        """32 secret bytes that the first process makes and all then have."""
        key = torch.frombuffer(bytearray(make() if self.first else bytes(32)), dtype=torch.uint8)
        self.send([key])
        return key.numpy().tobytes()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum over the processes, in place in the first one; what the others then hold is of no use."""
        for tensor in tensors:
            distributed.reduce(tensor, self._global(0), group=self._group)

    def send(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the first one's values, in place."""
        for tensor in tensors:
            distributed.broadcast(tensor, self._global(0), group=self._group)

    def _global(self, rank: int) -> int:
        return rank if self._group is None else distributed.get_global_rank(self._group, rank)


def parameter_bytes(module: torch.nn.Module) -> bytes:
    """Names, types and values of everything that is trained or stored in `module`: equal exactly where two modules are."""
    parts = []
    for name, tensor in sorted(module.state_dict().items()):
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        parts.append(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode() + raw)
    return b"".join(parts)
