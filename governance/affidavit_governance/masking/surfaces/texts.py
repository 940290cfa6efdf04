"""Plain text files, in pieces: memory stays flat, and a finding is never cut in two, also where a file is one long line."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

from affidavit.errors import InvalidInput
from affidavit.interfaces.masking import Finding, Recognizer
from affidavit.policy import MaskingPolicy
from affidavit_governance.masking.plan import check_entities, check_operators
from affidavit_governance.masking.recognizers.overlaps import cover
from affidavit_governance.masking.spans import Spans, mask_values
from affidavit_governance.masking.surfaces.writers import whole_file
from affidavit_governance.masking.text import scan_values
from affidavit_governance.masking.tools import Tools

SUFFIXES = (".txt", ".md", ".log")
BLOCK_BYTES = 1 << 20
MARGIN = 8192
"""Characters at the end of a piece that wait for the next one: more than the longest finding, a private key in PEM, and its surroundings."""
BEFORE = 128
"""Characters in front of a piece that are read again, because words there may speak for a finding."""


def is_text_file(path: str | Path) -> bool:
    """Whether a file's name says that it is plain text."""
    name = str(path).lower()
    return name.endswith(SUFFIXES) or name.endswith(tuple(f"{suffix}.gz" for suffix in SUFFIXES))


def mask_text_file(
    source: Path, target: Path, *, policy: MaskingPolicy, key: bytes, tools: Tools, progress: Callable[[int, int | None], None]
) -> dict[str, Any]:
    """Mask a text file into another; everything that is no personal data stays, byte for byte.

    Returns
    -------
    dict
        ``lines``, and ``findings`` by entity.

    Raises
    ------
    InvalidInput
        `source` is missing, or no UTF-8 text.
    """
    check_entities(policy, tools)
    check_operators(policy, tools)
    spans = Spans.of(policy, tools, key)
    counts: Counter[str] = Counter()
    lines = 0
    ended = True
    with ExitStack() as stack:
        pieces = Pieces(source, tools.recognizers, policy, settle=spans.settle)
        stack.enter_context(pieces)
        sink = stack.enter_context(whole_file(target))
        for text, found in pieces:
            (masked,), (kept,) = mask_values(
                [text], threshold=policy.threshold, thresholds=policy.thresholds, recognizers=tools.recognizers, spans=spans, found=[found]
            )
            sink.write(masked.encode())
            counts.update(finding.entity for finding in kept)
            lines += text.count("\n")
            ended = text.endswith("\n")
            progress(pieces.done, pieces.size)
    return {"lines": lines + (not ended), "findings": dict(sorted(counts.items()))}


class Pieces:
    """The pieces of a text file, each with what was found in it; `settle` says what becomes of overlapping findings.

    Attributes
    ----------
    done, size
        Bytes read, and bytes there are; a gzipped file's size is not known beforehand.
    """

    def __init__(
        self, source: Path, recognizers: Sequence[Recognizer], policy: MaskingPolicy, *, settle: Callable[[Iterable[Finding]], list[Finding]] = cover
    ) -> None:
        self._source = source
        self._settle = settle
        self._recognizers = recognizers
        self._policy = policy
        self.done = 0
        self.size: int | None = None

    def __enter__(self) -> Pieces:
        try:
            self._file: IO[bytes] = self._source.open("rb")
            self.size = None if self._source.suffix == ".gz" else self._source.stat().st_size
        except FileNotFoundError:
            raise InvalidInput(f"There is no file '{self._source}'.", hint="Check the path.") from None
        except OSError as error:
            raise InvalidInput(f"'{self._source}' cannot be read: {error.strerror}.", hint="Check the path and its permissions.") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[tuple[str, list[Finding]]]:
        """Cut where no finding stands, at a line's end where there is one."""
        text, before, found = "", "", list[Finding]()
        for block, last in self._blocks():
            text += block
            if len(text) <= MARGIN and not last:
                continue
            found = self._find(before, text)
            cut = len(text) if last else _cut(text, found)
            if cut == 0:
                continue
            yield text[:cut], [finding for finding in found if finding.end <= cut]
            before, text = (before + text[:cut])[-BEFORE:], text[cut:]

    def _find(self, before: str, text: str) -> list[Finding]:
        if not self._policy.detect:
            return []
        found = scan_values(
            [before + text], threshold=self._policy.threshold, thresholds=self._policy.thresholds, recognizers=self._recognizers, settle=self._settle
        )[0]
        at = len(before)
        return [Finding(f.entity, f.start - at, f.end - at, f.score, f.evidence) for f in found if f.start >= at]

    def _blocks(self) -> Iterator[tuple[str, bool]]:
        decoder = codecs.getincrementaldecoder("utf-8")()
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._file)) if self._source.suffix == ".gz" else self._file
        while True:
            pending = len(decoder.getstate()[0])
            try:
                block = file.read(BLOCK_BYTES)
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                at = self.done - pending + error.start
                raise InvalidInput(f"'{self._source}' is no UTF-8 text: byte {at} cannot be decoded.", hint="Convert it to UTF-8 first.") from None
            except (gzip.BadGzipFile, EOFError, zlib.error):
                raise InvalidInput(f"'{self._source}' is no gzip file, or it is damaged or cut short.") from None
            self.done += len(block)
            yield text, not block
            if not block:
                return


def _cut(text: str, found: Sequence[Finding]) -> int:
    """Where to end a piece: behind the last line, or else word, that ends before the margin; never inside a finding."""
    limit = max(0, len(text) - MARGIN)
    cut = text.rfind("\n", 0, limit) + 1
    if cut == 0:
        cut = text.rfind(" ", 0, limit) + 1 or limit
    for finding in reversed(found):
        if finding.start < cut < finding.end:
            cut = finding.start
    return cut
