"""The pages and their code: every test of a page takes its blocks from here.

A block is run, checked or plain text by its language (see `test_every_block.py`). One with a ``title`` is a file of that name.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(DOCS if DOCS in path.parents else ROOT).with_suffix("")): path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
    if "out" not in path.relative_to(ROOT).parts
}
"""Every page by its name: the path below ``docs/`` without the ending."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)(?P=mark) *$", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """One fenced block; `title` is the name of the file that it is, if it is one."""

    page: str
    line: int
    language: str
    title: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, language: str | None = None) -> list[Block]:
    """The blocks of a page in order, or those of one language."""
    return [block for block in _blocks(page) if language in (None, block.language)]


def _blocks(page: str) -> Iterator[Block]:
    text = PAGES[page].read_text("utf-8")
    for found in _FENCE.finditer(text):
        word, _, rest = found["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        code = re.sub(f"^{found['indent']}", "", found["code"], flags=re.M)
        yield Block(page, text.count("\n", 0, found.start()) + 1, word, title[1] if title else "", code)


def write_files(page: str, folder: Path) -> set[str]:
    """Write the page's blocks that are files; blocks of one title make one file."""
    parts: dict[str, list[str]] = {}
    for block in blocks(page):
        if block.title:
            parts.setdefault(block.title, []).append(block.code)
    for name, codes in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n\n".join(codes), "utf-8")
    return set(parts)


def run_page(page: str, names: dict[str, Any] | None = None, *, options: int = 0) -> dict[str, Any]:
    """Run every block of Python on a page, in order and in one set of names, and give the names.

    A block that begins with ``>>>`` must give what it shows, compared under doctest's `options`. One that is a file is not run here.
    """
    names = {} if names is None else names
    names.setdefault("__name__", "page")
    code = [block for block in blocks(page, "python") if not block.title]
    assert code, f"{page} has no Python to run"
    for block in code:
        if block.code.lstrip().startswith(">>>"):
            _show(block, names, options)
        else:
            assert not re.search(r"^>>> ", block.code, re.M), f"{block} mixes code with a session"
            exec(compile("\n" * block.line + block.code, f"{page}.md", "exec", dont_inherit=True), names)
    return names


def _show(block: Block, names: dict[str, Any], options: int) -> None:
    test = doctest.DocTestParser().get_doctest(block.code, {}, f"{block.page}.md", str(PAGES[block.page]), block.line)
    test.globs = names
    runner = doctest.DocTestRunner(optionflags=options)
    found: list[str] = []
    runner.run(test, out=found.append, clear_globs=False)
    assert not found, "".join(found)


def commands(page: str) -> list[str]:
    """The commands of a page's blocks of shell, in order: each line of ``bash``, each line of ``console`` after its prompt."""
    found: list[str] = []
    for block in blocks(page):
        lines = re.sub(r"\\\n\s*", " ", block.code).splitlines()
        if block.language == "console":
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
            assert lines, f"{block} has no command: begin it with '$ ', or call the block text"
        if block.language in ("bash", "console"):
            found += [line for line in lines if line.strip() and not line.startswith("#")]
    return found
