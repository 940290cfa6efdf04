"""Fixtures for everybody: a home for keys that is not the user's, and stores on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import gc
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import sqlalchemy as sa

from affidavit.store import Store

# Workers side by side share the cores: more threads than cores wait for each other in busy loops, which makes small trainings fifty times as
# slow. Torch reads this when a test module first imports it.
os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))))

# With torch and its like loaded, looking for cycles as often as Python does by default takes a twentieth of the suite.
gc.set_threshold(50_000, 20, 100)

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Put temporary files into memory, where there is room and nobody chose a place: the suite makes thousands of databases, whose every
    commit and file would wait for the disk. Worker processes and what tests spawn inherit the choice."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC and shutil.disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # read again


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys and journals of test workspaces go to a temporary folder, and no key of the user's environment is used."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        patch.setenv("AFFIDAVIT_HOME", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        for name in ("AFFIDAVIT_KEY", "AFFIDAVIT_KEY_PROVIDER", "AFFIDAVIT_PASSPHRASE"):
            patch.delenv(name, raising=False)
        yield


_explained = {"rows": 0}
"""Explained rows that the suite made, over all worker processes; the last line of a run says how many."""


@pytest.fixture(scope="session", autouse=True)
def _every_explained_row_carries_a_residual(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever explanation any test makes, each of its rows that has a base and a prediction must have a residual."""
    from affidavit.interfaces.explanation import Explanation

    made = Explanation.__init__
    without: list[str] = []

    def watched(self: Explanation, *arguments: object, **members: object) -> None:
        made(self, *arguments, **members)  # type: ignore[arg-type]  # handed on as they came
        try:
            answered = np.isfinite(self.base) & np.isfinite(self.predicted)
            residual = np.broadcast_to(self.residual, answered.shape)
        except (TypeError, ValueError):  # a record with arrays that do not fit, made to be refused
            return
        _explained["rows"] += int(answered.sum())
        if not np.isfinite(residual[answered]).all():
            without.append(os.environ.get("PYTEST_CURRENT_TEST", "?"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Explanation, "__init__", watched)
        yield
    if hasattr(request.config, "workeroutput"):
        request.config.workeroutput["explained_rows"] = _explained["rows"]
    assert not without, f"explained rows without a residual: {sorted(set(without))}"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Add up what each worker process explained."""
    _explained["rows"] += getattr(node, "workeroutput", {}).get("explained_rows", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many rows were explained."""
    if _explained["rows"]:
        terminalreporter.write_line(f"{_explained['rows']:,} explained rows, each with its residual")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A PostgreSQL server: the one that AFFIDAVIT_TEST_POSTGRES names, or a temporary one from the installed binaries."""
    if importlib.util.find_spec("psycopg") is None:
        _do_without("psycopg is not installed (extra 'postgres')")
    given = os.environ.get("AFFIDAVIT_TEST_POSTGRES")
    if given:
        yield sa.make_url(given).set(drivername="postgresql+psycopg")
        return
    binaries = _postgres_binaries()
    if binaries is None:
        _do_without("no PostgreSQL server binaries are installed and AFFIDAVIT_TEST_POSTGRES is not set")
    # Not below pytest's own folder: the server may run as another user, who cannot look into that.
    folder = Path(tempfile.mkdtemp(prefix="affidavit-postgres-"))
    try:
        yield from _run_postgres(binaries, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """The URL of an empty PostgreSQL database, dropped after the test."""
    with _database(postgres_server) as url:
        yield _text(url)


@pytest.fixture(scope="session")
def _shared_database(postgres_server: sa.URL) -> Iterator[sa.Engine]:
    with _database(postgres_server) as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        yield engine
        engine.dispose()


@pytest.fixture
def _postgres_schema(_shared_database: sa.Engine) -> Iterator[str]:
    """The URL of an empty schema: a workspace of its own, made a hundred times as fast as a database."""
    name = f"test_{uuid.uuid4().hex}"
    with _shared_database.connect() as connection:
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    yield _text(_shared_database.url.update_query_dict({"options": f"-csearch_path={name}"}))
    with _shared_database.connect() as connection:
        connection.exec_driver_sql(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new workspace may be made: a test that takes this runs once for each kind of database."""
    return str(tmp_path / "ws") if request.param == "sqlite" else str(request.getfixturevalue("_postgres_schema"))


@pytest.fixture
def store(store_location: str) -> Iterator[Store]:
    """An open store on each kind of database."""
    with Store.open(store_location) as opened:
        yield opened


@pytest.fixture
def calls_in() -> Callable[[Callable[[], object]], int]:
    """Counts the function calls, Python's and C's, that some work makes when it is done a second time: cost without a clock."""

    def count(work: Callable[[], object]) -> int:
        work()
        seen: Counter[str] = Counter()
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, argument: seen.update((event,)))
        try:
            work()
        finally:
            sys.setprofile(before)
        return seen["call"] + seen["c_call"]

    return count


@contextlib.contextmanager
def _database(server: sa.URL) -> Iterator[sa.URL]:
    name = f"affidavit_{uuid.uuid4().hex}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0")
    yield server.set(database=name)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


def _text(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _do_without(reason: str) -> NoReturn:
    """Skip here, but fail in CI, where nothing may be left out."""
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason)
    pytest.skip(reason)


def _postgres_binaries() -> Path | None:
    found = [shutil.which("initdb"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]  # noqa: PTH207  # an absolute pattern
    folders = [Path(path).resolve().parent for path in found if path]
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


def _run_postgres(binaries: Path, folder: Path) -> Iterator[sa.URL]:
    """Make a cluster in `folder`, serve it on a socket there, and stop it at the end. The server refuses to run as root, so root lends it a user."""
    user = None
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        user = owner.pw_uid
    cluster = folder / "data"
    initdb = [binaries / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    subprocess.run(initdb, user=user, cwd=folder, check=True, capture_output=True)
    settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off", "max_connections": "50"}
    command = [binaries / "postgres", "-D", cluster, *(part for key, value in settings.items() for part in ("-c", f"{key}={value}"))]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
    try:
        url = sa.URL.create("postgresql+psycopg", username="postgres", database="postgres", query={"host": str(folder)})
        _wait_until_ready(url, server, folder / "log")
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(url: sa.URL, server: subprocess.Popen[bytes], log: Path) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with engine.connect():
                return
        except sa.exc.OperationalError:
            time.sleep(0.05)
    pytest.fail(f"The temporary PostgreSQL server did not start:\n{log.read_text(errors='replace')[-2000:]}")
