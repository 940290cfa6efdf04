"""The tutorial, played as a new author would: every file written, every command run, every line of output compared, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, Block, blocks

ANYTHING = "…"
READS, TYPES = 200, 200
"""Words that a person reads and characters that one types in a minute; both are slow."""


@dataclass
class Desk:
    """A folder with a virtual environment in which the installed packages are at hand, and what its terminal has shown."""

    folder: Path
    shown: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        home = self.folder / ".venv"
        venv.create(home, with_pip=False)
        python = home / "bin/python"
        site = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
        # What pip would download is there already: the packages of the environment that runs this test.
        (site / "at_hand.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        scripts = {
            "affidavit": "from affidavit.cli import main; main()",
            # Neither an index nor a fresh environment to build in: both need a network.
            "pip": "import sys; from pip._internal.cli.main import main; sys.exit(main([*sys.argv[1:], '--no-index', '--no-build-isolation']))",
        }
        for name, code in scripts.items():
            (home / "bin" / name).write_text(f"#!{python}\n{code}\n")
            (home / "bin" / name).chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "COLUMNS", "AFFIDAVIT"))}
        path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
        own = {"HOME": str(self.folder), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "AFFIDAVIT_HOME": str(self.folder / ".config")}
        self.environment = {**kept, **own, "PATH": path, "VIRTUAL_ENV": str(home)}

    def play(self, block: Block) -> None:
        """Write a file, or type the commands of a session and compare what they show."""
        if block.title:
            (self.folder / block.title).parent.mkdir(exist_ok=True)
            (self.folder / block.title).write_text(block.code)
            return
        assert block.language == "console", f"{block} is neither a file nor a session"
        for session in re.split(r"^\$ ", block.code, flags=re.M)[1:]:
            command, _, expected = session.partition("\n")
            shown = self.type(self.copied(command))
            lines = [line.rstrip() for line in shown.splitlines()]
            assert re.fullmatch(pattern(expected), "".join(f"{line}\n" for line in lines if line)), f"$ {command}\n{shown}"

    def type(self, command: str) -> str:
        """Run a command in the folder; gives what the terminal shows."""
        started = time.monotonic()
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        self.seconds[command] = time.monotonic() - started
        self.shown += done.stdout
        return done.stdout

    def copied(self, command: str) -> str:
        """The command as it was shown before, where the page leaves parts of it open."""
        if ANYTHING not in command:
            return command
        before = re.findall(re.escape(command).replace(ANYTHING, ".*"), self.shown)
        assert before, f"nothing showed '{command}'"
        return str(before[-1])


def pattern(expected: str) -> str:
    """What output must match: ``…`` is anything within a line, and any lines where it stands alone; empty lines do not count."""
    lines = (line.rstrip() for line in expected.splitlines())
    return "".join("(?:.*\n)*?" if line == ANYTHING else re.escape(line).replace(ANYTHING, ".*") + "\n" for line in lines if line)


def code_lines(block: Block) -> int:
    return sum(bool(line.strip()) for line in block.code.splitlines())


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """The desk after the whole page was played."""
    desk = Desk(tmp_path_factory.mktemp("tutorial"))
    for block in blocks("tutorial"):
        desk.play(block)
    return desk


def test_following_the_page_gives_what_the_page_shows(desk: Desk) -> None:
    assert (desk.folder / "why.png").read_bytes().startswith(b"\x89PNG")
    assert (desk.folder / "out/report.html").exists()
    assert "example.org" not in desk.shown
    assert "Traceback" not in desk.shown


def test_what_is_on_the_desk_comes_from_the_page_and_not_from_this_folder(desk: Desk) -> None:
    where = desk.type("python -c 'import acme_lda.model; print(acme_lda.model.__file__)'") + desk.type(
        "cd / && python -c 'import acme_lda; print(acme_lda.__file__)'"
    )
    assert where.splitlines() == [
        str(desk.folder / "acme_lda/model.py"),
        str(next(desk.folder.glob(".venv/lib/*/site-packages/acme_lda/__init__.py"))),
    ]


def test_a_model_type_is_six_lines_of_toml_and_ten_of_python() -> None:
    files = {block.title: block for block in blocks("tutorial") if block.title}
    assert code_lines(files["pyproject.toml"]) == 6
    assert code_lines(files["acme_lda/plugin.py"]) + code_lines(files["acme_lda/model.py"]) == 10


def test_reading_and_typing_take_less_than_a_quarter_of_an_hour(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    typed = sum(len(block.code) for block in blocks("tutorial") if block.title)
    typed += sum(len(line) for block in blocks("tutorial", "console") for line in block.code.splitlines() if line.startswith("$ "))
    # Whoever types a block reads it on the way.
    words = len(PAGES["tutorial"].read_text("utf-8").split()) - sum(len(block.code.split()) for block in blocks("tutorial") if block.title)
    reading, typing, waiting = words / READS, typed / TYPES, sum(desk.seconds.values()) / 60
    with capsys.disabled():
        print(f"\n{words} words {reading:.1f} min, {typed} characters {typing:.1f} min, {len(desk.seconds)} commands {waiting:.1f} min")
    assert reading + typing < 15


@pytest.mark.parametrize("expected", ["a…c\n", "…\nc\n", "a b c\n…\n"])
def test_the_comparison_of_output_accepts_what_is_left_open(expected: str) -> None:
    assert re.fullmatch(pattern(expected), "a b c\n" if "…\nc" not in expected else "x\ny\nc\n")


@pytest.mark.parametrize("expected", ["a…d\n", "b\n", "a b c\nd\n", "a b\n", "", "…\nd\n"])
def test_the_comparison_of_output_refuses_what_differs(expected: str) -> None:
    assert not re.fullmatch(pattern(expected), "a b c\n")
