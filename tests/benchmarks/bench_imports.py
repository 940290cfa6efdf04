"""What it costs to import the core and to ask the command line for help: CPU seconds of a fresh interpreter, median of ten."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

TARGETS = {
    "import affidavit": ([sys.executable, "-c", "import affidavit"], 0.3),
    "affidavit --help": ([sys.executable, "-m", "affidavit", "--help"], 0.6),
    "import affidavit; affidavit.Workspace": ([sys.executable, "-c", "import affidavit; affidavit.Workspace"], None),
    "python alone": ([sys.executable, "-c", "pass"], None),
}


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    for name, (command, target) in TARGETS.items():
        seconds = statistics.median(cpu_seconds(command) for _ in range(10))
        print(f"{name:<40} {seconds:6.3f} s CPU" + (f"   (target under {target} s)" if target else ""))
