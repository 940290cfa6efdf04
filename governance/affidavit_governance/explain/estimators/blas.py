"""One BLAS thread while explanations are computed.

BLAS adds in another order when it shares a product among threads, so that the last bits of a number would depend on how many it may use; and for
matrices of this size its threads cost more than they save.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0
_controller: Any = None
_limit: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS for the whole process while any thread is inside; the last one out puts things back as the first one found them."""
    global _inside, _controller, _limit
    with _lock:
        _inside += 1
        if _inside == 1:
            _controller = ThreadpoolController()
            _limit = _controller.limit(limits=1, user_api="blas")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _release_control()
                _limit.restore_original_limits()
                _release_control()


def _release_control() -> None:
    """Let any thread change the limit: newer releases of threadpoolctl let only the one that set it, and another may be the last one out."""
    for library in _controller.lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
