"""Seeded blocks: parameter initialisation and dropout can only draw from torch's global generator, so it is lent and given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_lock = threading.RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block and restore its state afterwards, on exceptions too.

    Blocks in several threads of one process take turns: two of them drawing from the one generator would change each other's results.
    """
    with _lock, torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that would also reseed every accelerator, which fork_rng(devices=[]) does not restore.
        torch.default_generator.manual_seed(seed)
        yield
