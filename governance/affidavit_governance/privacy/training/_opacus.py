"""What is used of Opacus, imported without its side effect: it calls ``logging.basicConfig``, and that choice is the application's."""

from __future__ import annotations

import logging

_handlers = logging.getLogger().handlers[:]

from opacus.grad_sample.grad_sample_module import GradSampleHooks  # noqa: E402  # between the two lines that undo its side effect
from opacus.optimizers import DPOptimizer  # noqa: E402  # see above

logging.getLogger().handlers[:] = _handlers

__all__ = ["DPOptimizer", "GradSampleHooks"]
