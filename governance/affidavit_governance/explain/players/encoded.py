"""The games of fields on the model's own matrix: mixtures of encoded rows instead of tables, in pieces that stay in a core's cache."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from affidavit.errors import PluginError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import EncodedView
from affidavit_governance.explain.case import Score
from affidavit_governance.explain.estimators.shapley import Family

PRODUCTS_AT_ONCE, COLUMNS_AT_ONCE = 2**16, 2**18
"""Numbers of a piece. For layers 512 KiB as float64, half a core's second-level cache on the machines of these years: the rest is for the layers
after the first. Trees take more at once, because each call of each tree costs time of its own. The pieces of a call depend on nothing else, so
that a row's numbers are the same alone, in a batch and beside other threads."""

LONE_PRODUCT = 2**18
"""Multiplications up to which BLAS libraries keep a product to one thread. Larger ones wait for all of BLAS's threads, hundreds of times as long
as they compute where other programs hold the cores; here whole pieces go to threads instead."""

SAME = 1e-6
"""How far an encoded answer may be from the model's own, relative to the largest: what single precision loses, and an exact record may miss."""

SINGLE = 1e-5
"""How far answers in single precision may be from those in double, relative to the largest, to serve estimates: far inside their intervals."""

MIXTURES = 4
"""Mixtures of each explained row on which both roads are compared."""

Matrix = NDArray[np.float64]

T = TypeVar("T")

Mix = Callable[[NDArray[np.bool_], NDArray[np.int64]], Dataset]
"""Takes one coalition and one background row for each explained row, and gives these mixtures as a table."""


Mixing = Callable[[NDArray[np.bool_], NDArray[np.int64]], NDArray[np.float64]]
"""What the model reads for coalitions of all players of one explained row, against background rows given in ascending order."""


class Encoded(ABC):
    """Mixtures of encoded rows, asked of a model.

    Attributes
    ----------
    score
        The model as a number a row.
    players
        How many there are.
    fits
        For each explained row, whether the model answers its mixtures as it answers tables.
    in_threads
        Whether a piece takes so long that threads which wait for the interpreter's lock between its steps still gain time. If not, whole
        explained rows go to threads.
    single
        Whether the model answers mixtures in single precision too, so nearly the same that estimates may rest on them.
    """

    in_threads: ClassVar[bool] = True

    def __init__(self, score: Score, answer: Callable[[Matrix], NDArray[np.float64]], step: int, players: int, references: int) -> None:
        self.score = score
        self.players = players
        self._references = references
        self.fits: NDArray[np.bool_] = np.empty(0, dtype=bool)
        self.single = False
        self._answer = answer
        self._step = max(64, step)

    @abstractmethod
    def mixing(self, row: int, *, single: bool = False) -> Mixing:
        """How coalitions of explained row `row` become what the model reads, in single or double precision."""

    def ask(self, mixed: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of what `mixing` gave."""
        return self.score.read_array(self._answer(mixed))

    def family(self, row: int, active: NDArray[np.int64], *, estimate: bool = False) -> Family:
        """The score of each coalition of the active players of row `row`, against the background row that the second argument names.

        Parameters
        ----------
        estimate
            The values only serve an estimate: many at once may be answered in single precision. Few are not, and the ends, to which everything
            must add up, are among them.
        """
        precise, quick = self.mixing(row), self.mixing(row, single=True) if estimate and self.single else None
        if quick is not None:
            self.score.precision = "single"

        def value(coalitions: NDArray[np.bool_], reference: NDArray[np.int64]) -> NDArray[np.float64]:
            few = quick is None or len(coalitions) <= 2 * self._references
            mixing, step = (precise, self._step) if quick is None or few else (quick, 2 * self._step)  # as many bytes a piece
            # Narrow numbers are sorted by their digits, in a fraction of the time.
            order = np.argsort(reference.astype(np.min_scalar_type(reference.max(initial=0))), kind="stable")
            scores = np.empty(len(coalitions))

            def piece(start: int) -> None:
                places = order[start : start + step]
                scores[places] = self.ask(mixing(self._full(coalitions[places], active), reference[places]))

            self.score.count(len(coalitions))
            starts = range(0, len(order), step)
            if self.in_threads:
                spread(piece, starts)
            else:
                for start in starts:
                    piece(start)
            return scores

        return value

    def _full(self, coalitions: NDArray[np.bool_], active: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Coalitions of all players, from those of the active ones, which mostly are all."""
        if len(active) == self.players:
            return coalitions
        full = np.zeros((len(coalitions), self.players), dtype=bool)
        full[:, active] = coalitions
        return full


class Columns(Encoded):
    """Each player puts in its columns of the matrix. `player` names the player of each column."""

    def __init__(self, score: Score, view: EncodedView, own: Matrix, background: Matrix, player: NDArray[np.int64], players: int) -> None:
        assert view.answer is not None
        super().__init__(score, view.answer, COLUMNS_AT_ONCE // max(1, own.shape[1]), players, len(background))
        self._own, self._background, self._player = own, background, player

    def mixing(self, row: int, *, single: bool = False) -> Mixing:
        def mixed(coalitions: NDArray[np.bool_], reference: NDArray[np.int64]) -> NDArray[np.float64]:
            rows = self._background.take(reference, axis=0)
            np.copyto(rows, self._own[row], where=coalitions.take(self._player, axis=1))
            return rows

        return mixed


class Products(Encoded):
    """Each player adds what its columns give the first linear layer, so that the layer costs one product of coalitions and players."""

    in_threads = False

    def __init__(self, score: Score, view: EncodedView, own: Matrix, background: Matrix, player: NDArray[np.int64], players: int) -> None:
        assert view.projection is not None and view.head is not None
        super().__init__(score, view.head, PRODUCTS_AT_ONCE // max(1, view.projection.shape[1]), players, len(background))
        self._projection, self._player = view.projection, player
        self._own, self._background = own, self._added(background)
        self._base = self._background.sum(axis=1)

    def _added(self, matrix: Matrix) -> NDArray[np.float64]:
        """Rows × players × units: what each player's columns add to the product with the projection."""
        added = np.zeros((len(matrix), self.players, self._projection.shape[1]))
        for player in range(self.players):
            columns = self._player == player
            added[:, player] = matrix[:, columns] @ self._projection[columns]
        return added

    def mixing(self, row: int, *, single: bool = False) -> Mixing:
        kind = np.float32 if single else np.float64
        change = (self._added(self._own[row : row + 1]) - self._background).astype(kind)
        base = self._base.astype(kind)
        block = max(16, LONE_PRODUCT // max(1, change[0].size))

        def mixed(coalitions: NDArray[np.bool_], reference: NDArray[np.int64]) -> NDArray[np.float64]:
            inside, products = coalitions.astype(kind), np.empty((len(coalitions), change.shape[2]), dtype=kind)
            start = 0
            for end in [*(np.flatnonzero(np.diff(reference)) + 1).tolist(), len(reference)]:
                number = reference[start] if end else 0
                for first in range(start, end, block):
                    part = slice(first, min(first + block, end))
                    np.matmul(inside[part], change[number], out=products[part])
                products[start:end] += base[number]
                start = end
            return products

        return mixed


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(work: Callable[[int], None], starts: range) -> None:
    """Do independent pieces of work on all cores; NumPy and the models let go of the interpreter's lock while they compute."""
    if len(starts) < 2 * cores():
        for start in starts:
            work(start)
        return
    for _ in side_by_side(work, starts):
        pass


def side_by_side(work: Callable[[int], T], numbers: range) -> Iterator[T]:
    """What `work` gives for each of the numbers, in their order, from as many threads as there are cores."""
    if cores() == 1 or len(numbers) == 1:
        yield from map(work, numbers)
        return
    # Each in a copy of the caller's context, which says for one that this is a governed call.
    here = copy_context()
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(lambda number: here.copy().run(work, number), numbers)


def open_encoded(score: Score, data: Dataset, background: Dataset, player_of: Mapping[str, int], mix: Mix) -> Encoded | None:
    """The encoded road to the model, checked; None where there is none, with the reason in ``score.road``.

    Explained rows, background and some mixtures are asked on both roads. A row on which they differ goes through tables.

    Parameters
    ----------
    player_of
        The player of each field.
    mix
        Builds the mixtures to compare as a table.
    """
    try:
        view = score.model.encoded_view()
    except PluginError:
        return None
    if view.answer is None or not len(data):
        return None
    if not set(view.players) <= set(player_of):
        score.road = "tables: a column of the encoded rows belongs to no field"
        return None
    player = np.array([player_of[field] for field in view.players], dtype=np.int64)
    own, reference = _matrix(view.encode(data)), _matrix(view.encode(background))
    if own.shape != (len(data), len(player)) or reference.shape != (len(background), len(player)):
        score.road = "tables: the encoded rows have another number of columns than they have names"
        return None
    kind = Products if view.projection is not None and view.head is not None else Columns
    encoded = kind(score, view, own, reference, player, max(player_of.values()) + 1)
    encoded.fits = _agree(encoded, background, len(data), mix)
    encoded.single = kind is Products and _single_serves(encoded, len(data), len(background))
    if encoded.fits.all():
        score.road = "encoded rows"
        return encoded
    score.road = f"tables: the encoded rows of {int((~encoded.fits).sum())} explained rows are answered otherwise than by predict"
    return encoded if encoded.fits.any() else None


def _single_serves(encoded: Encoded, rows: int, copies: int) -> bool:
    """Whether both precisions answer some mixtures of every explained row alike."""
    coalitions = np.random.default_rng(1).random((MIXTURES, encoded.players)) < 0.5
    reference = np.arange(MIXTURES) * copies // MIXTURES
    for row in range(rows):
        exact = encoded.ask(encoded.mixing(row)(coalitions, reference))
        near = encoded.ask(encoded.mixing(row, single=True)(coalitions, reference))
        if not (abs(near - exact) <= SINGLE * max(float(abs(exact).max()), 1e-300)).all():
            return False
    return True


def _matrix(encoded: Any) -> Matrix:
    return np.ascontiguousarray(encoded, dtype=np.float64)


def _agree(encoded: Encoded, background: Dataset, rows: int, mix: Mix) -> NDArray[np.bool_]:
    """Which of so many explained rows both roads answer alike; none where they differ on the background.

    Each row is compared as it is and in some mixtures. These are the same for every row, so that its check does not depend on its neighbours.
    """
    count, copies = encoded.players, len(background)
    known, nobody = encoded.score(background), np.zeros((copies, count), dtype=bool)
    scale = float(abs(known).max())
    if (abs(encoded.ask(encoded.mixing(0)(nobody, np.arange(copies))) - known) > SAME * scale).any():
        return np.zeros(rows, dtype=bool)
    coalitions = np.concatenate([np.ones((1, count), dtype=bool), np.random.default_rng(0).random((MIXTURES, count)) < 0.5])
    reference = np.arange(len(coalitions)) * copies // len(coalitions)
    found = encoded.ask(np.concatenate([encoded.mixing(row)(coalitions, reference) for row in range(rows)]))
    encoded.score.count(copies + found.size)
    tables = [encoded.score(mix(np.tile(coalition, (rows, 1)), np.full(rows, at))) for coalition, at in zip(coalitions, reference, strict=True)]
    through = np.stack(tables, axis=1)
    alike: NDArray[np.bool_] = abs(found.reshape(rows, -1) - through) <= SAME * np.maximum(scale, abs(through))
    return np.asarray(alike.all(axis=1))
