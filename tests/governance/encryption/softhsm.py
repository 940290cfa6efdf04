"""One SoftHSM token for all tests of a process: the library reads its configuration once, so that two folders would leave one test without."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

LABEL = "affidavit-test"
PIN = "481516"
SOFTHSM = next(
    (path for path in ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so") if Path(path).exists()), None
)


def token() -> str | None:
    """The label of the token, made at the first call and named to the library at each; None where SoftHSM2 is not installed (Debian's softhsm2)."""
    configuration = _configuration()
    if configuration is None:
        return None
    os.environ["SOFTHSM2_CONF"] = configuration
    return LABEL


@functools.cache
def _configuration() -> str | None:
    tool = shutil.which("softhsm2-util")
    if SOFTHSM is None or tool is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    configuration = str(folder / "softhsm2.conf")
    command = [tool, "--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOFTHSM2_CONF": configuration})
    return configuration
