"""``make bench``: every benchmark in one run, or the ones named: ``python -m tests.benchmarks predict imports``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> None:
    """Run the named benchmarks, all by default."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    for name in names or known:
        if name not in known:
            sys.exit(f"There is no benchmark '{name}'. Known: {', '.join(known)}.")
        print(f"\n== {name} ==")
        importlib.import_module(f"tests.benchmarks.bench_{name}").main()


main(sys.argv[1:])
