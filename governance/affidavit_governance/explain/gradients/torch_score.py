"""A torch model as a differentiable number a row, on a copy of its own, and the player of each number that it reads."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit_governance.explain.case import Case
from affidavit_governance.explain.players.base import Players
from affidavit_governance.explain.players.fields import FieldBlock
from affidavit_governance.explain.players.regions import RegionBlock, tensor_column

SAME = 1e-4
"""How far the copy's answers may be from `predict`, relative to the largest: the copy counts in double precision, the model perhaps in single."""

NUMBERS_AT_ONCE = 2**18
"""Numbers that the copy reads at once; its layers and their gradients take many times as much memory."""


@dataclass(frozen=True, slots=True)
class TorchScore:
    """A copy of a torch model that answers with the explained number.

    Attributes
    ----------
    module
        The copy: in evaluation mode and without gradients of its weights. The model's own module is never touched.
    score
        From the module's output to what `predict` answers.
    column
        The explained class among the probabilities; None for values.
    rows, background
        What the module reads for the explained rows and the reference rows.
    player
        Rows × the shape of one input: the player that each number belongs to.
    """

    module: nn.Module
    score: Callable[[Tensor], Tensor]
    column: int | None
    rows: Tensor
    background: Tensor
    player: NDArray[np.int64]

    @classmethod
    def open(cls, case: Case, players: Players, method: str) -> TorchScore:
        """Copy the model and check the copy against `predict` on the explained rows and the reference rows.

        Raises
        ------
        UsageError
            The model has no torch view with a score, or reads something whose numbers belong to no player.
        PluginError
            The view answers otherwise than `predict`.
        """
        model = case.score.model
        view = model.torch_view()
        if view.score is None:
            raise UsageError(f"Method '{method}' does not fit this {model.type}: its torch view has no score.", hint="Use 'permutation'.")
        rows, background = view.encode(case.data), view.encode(case.background)
        if not isinstance(rows, Tensor) or rows.dtype in (torch.int64, torch.int32):
            raise UsageError(f"Method '{method}' does not fit this {model.type}: it reads no numbers that could change a little.")
        player = _player_of_numbers(case, players, rows, view)
        if player is None:
            hint = "Use 'permutation' or 'partition'."
            raise UsageError(
                f"Method '{method}' does not fit this {model.type}: the numbers that it reads do not belong to one player each.", hint=hint
            )
        column = None if case.score.label is None else model.fitted.classes.index(case.score.label)
        module = copy.deepcopy(view.module).eval().requires_grad_(False)
        for precision in (torch.float64, torch.float32):
            found = cls(module.to(precision), view.score, column, rows.to(precision), background.to(precision), player)
            try:
                answers = np.concatenate([found.values(found.rows), found.values(found.background)])
                break
            except RuntimeError:  # a module that casts its input itself may refuse double precision
                if precision is torch.float32:
                    raise
        known = np.concatenate([case.score(case.data), case.score(case.background)])
        if not (abs(answers - known) <= SAME * abs(known).max(initial=1e-300)).all():
            raise PluginError(f"The torch view of model type '{model.type}' answers otherwise than its predict.")
        return found

    def __call__(self, inputs: Tensor) -> Tensor:
        """The explained number of each row, differentiable."""
        answers = self.score(self.module(inputs))
        return answers if self.column is None else answers[:, self.column]

    def values(self, inputs: Tensor) -> NDArray[np.float64]:
        """The explained number of each row."""
        with torch.inference_mode():
            parts = [self(inputs[start : start + self.step]).double().numpy() for start in range(0, len(inputs), self.step)]
        return np.concatenate(parts or [np.empty(0)])

    @property
    def step(self) -> int:
        """Rows that go through the copy at once."""
        return max(1, NUMBERS_AT_ONCE // max(1, self.rows[:1].numel()))

    def slopes(
        self, row: int, players: int, reference: NDArray[np.int64], at: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values, and each player's share of the slope (points × players), on the paths from background rows to explained row `row`."""
        values, shares = np.empty(len(at)), np.empty((len(at), players))
        member = torch.nn.functional.one_hot(torch.tensor(self.player[row].reshape(-1)), players).to(self.rows.dtype)
        for start in range(0, len(at), self.step):
            part = slice(start, start + self.step)
            change = self.rows[row] - self.background[torch.from_numpy(reference[part])]
            position = torch.from_numpy(at[part]).to(change.dtype).reshape(-1, *[1] * (change.ndim - 1))
            point = (self.rows[row] - change * (1 - position)).requires_grad_()
            with torch.enable_grad():
                value = self(point)
                (gradient,) = torch.autograd.grad(value.sum(), point)
            values[part] = value.detach().double().numpy()
            shares[part] = ((gradient * change).reshape(len(change), -1) @ member).double().numpy()
        return values, shares


def _player_of_numbers(case: Case, players: Players, rows: Tensor, view: Any) -> NDArray[np.int64] | None:
    """The player of each number of each row; None where numbers belong to no player or to several."""
    shape = tuple(rows.shape)
    if len(players.names) == 1:
        return np.zeros(shape, dtype=np.int64)
    if len(players.blocks) != 1:
        return None
    block = players.blocks[0]
    if isinstance(block, FieldBlock):
        if rows.ndim != 2 or len(view.players) != shape[1] or not set(view.players) <= set(block.fields):
            return None
        return np.broadcast_to(np.array([case.grouping.player_of(field) for field in view.players], dtype=np.int64), shape)
    return _regions(case, block, view, shape) if isinstance(block, RegionBlock) else None


def _regions(case: Case, block: RegionBlock, view: Any, shape: tuple[int, ...]) -> NDArray[np.int64] | None:
    """Where the encoding puts each region: pictures whose pixels are the numbers of their regions are encoded. None where it changes the numbers."""
    field = block.fields[0]
    numbers = tensor_column(block.maps.astype(np.float64), case.data.column(field).type)
    pictures = Dataset(pa.table({field: numbers}), case.data.schema, name="regions")
    found: NDArray[np.int64] = view.encode(pictures).double().numpy().astype(np.int64)
    same = found.shape == shape and (np.sort(found.reshape(len(found), -1)) == np.sort(block.maps.reshape(len(found), -1))).all()
    return found if same else None
