"""What a private run puts into its checkpoint, and how a killed run goes on from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affidavit.errors import IntegrityError, Refused
from affidavit.interfaces.governance import JSON
from affidavit_governance.privacy.accounting import Event
from affidavit_governance.privacy.randomness import Randomness
from affidavit_governance.privacy.training.sampling import make_sampler

if TYPE_CHECKING:
    from affidavit_governance.privacy.training.checkpoints import Checkpoint
    from affidavit_governance.privacy.training.loop import PrivateLoop

Statistic = tuple[Event, dict[str, JSON]]
Answer = tuple[NDArray[np.float64], NDArray[np.float64]]


class Keeper:
    """Keeps one run's checkpoint up to date, and gives back what an earlier process of the same run left in it.

    Parameters
    ----------
    call
        This process's call, which budget and evidence know it by.

    Attributes
    ----------
    calls
        The calls of all processes that worked on this run, this one's last.
    statistics
        The statistics that earlier processes released, with their notes.
    lost
        Steps that were taken and whose weights are lost.
    """

    def __init__(self, checkpoint: Checkpoint, call: str) -> None:
        self._checkpoint = checkpoint
        state = checkpoint.state or {"calls": [], "statistics": [], "answers": [], "loop": None}
        self.calls: list[str] = [*state["calls"], call]
        self.statistics: list[Statistic] = [(Event.from_json(each["event"]), each["note"]) for each in state["statistics"]]
        self._answers: list[list[list[float]]] = state["answers"]
        self._asked = 0
        self._loop: dict[str, Any] | None = state["loop"]
        self.lost = 0
        if self._loop is not None:
            self.lost = self._loop["lost"] + checkpoint.taken - self._loop["taken"]
        self._tensors: dict[str, nn.Parameter] = {}
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def earlier_calls(self) -> list[str]:
        """The calls of the processes that worked on this run before."""
        return self.calls[:-1]

    @property
    def settings(self) -> dict[str, Any] | None:
        """How an earlier process began to train, None where none did."""
        found: dict[str, Any] | None = None if self._loop is None else self._loop["settings"]
        return found

    @property
    def taken(self) -> int:
        """Steps that count as taken."""
        return self._checkpoint.taken

    def take_over(self) -> None:
        """Write down that this process works on the run as well: to be called before it takes over what the others had reserved."""
        self._checkpoint.amend({"calls": self.calls})

    @property
    def begun(self) -> bool:
        """Whether the run released anything that another process can go on from."""
        return self._checkpoint.state is not None

    def taken_before(self, seen_by: tuple[str, int]) -> list[Event]:
        """What the steps of the earlier processes released, for neighbours of the relation and group size `seen_by`."""
        settings = self.settings
        if settings is None or not self.taken or not settings["noise_multiplier"]:
            return []
        rate, length = settings["sampling_rate"], settings["steps_per_epoch"]
        sampler = make_sampler(settings["sampler"], Randomness(), rows=0, rate=rate, steps_per_epoch=length)
        return [sampler.event(self.taken, settings["noise_multiplier"], *seen_by)]

    # -- statistics -------------------------------------------------------------------------------------------------------------------

    def answer(self, columns: int) -> Answer | None:
        """What an earlier process released in answer to the next question for statistics; None where none did."""
        if self._asked == len(self._answers):
            return None
        center, scale = (np.array(part, dtype=np.float64) for part in self._answers[self._asked])
        if len(center) != columns:
            raise IntegrityError("The model asks for the statistics of other columns than the run that it goes on with.")
        self._asked += 1
        return center, scale

    def keep_statistics(self, statistics: Sequence[Statistic], answer: Answer | None = None) -> None:
        """Write down the statistics that are about to be released; or, with the answer that came of them, that they were."""
        self.statistics = list(statistics)
        if answer is not None:
            self._answers.append([part.tolist() for part in answer])
            self._asked += 1
        self._save(None)

    # -- steps ------------------------------------------------------------------------------------------------------------------------

    def begin(self, module: nn.Module, optimizer: torch.optim.Optimizer, settings: Mapping[str, JSON]) -> int:
        """Take note of what is trained, and fill it with what an earlier process left.

        Returns
        -------
        int
            The number of steps that count as taken. Where the order of an epoch's rows was drawn at once (`training.sampling`), it is that of
            whole epochs: the rest of the order is not known any more, and another one would draw some rows twice.

        Raises
        ------
        Refused
            The model trains in another way than the run that it goes on with.
        IntegrityError
            The checkpoint's tensors do not fit the module or the optimizer.
        """
        self._tensors = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        self._optimizer = optimizer
        self._settings = {**settings, "frozen": _frozen_digest(module)}
        if self._loop is None:
            return 0
        differing = sorted(name for name in self._settings if self._loop["settings"].get(name) != self._settings[name])
        if differing:
            raise Refused(
                f"The model does not go on as the checkpoint's run began: {', '.join(differing)} differ.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Train with what that run had, or name another folder.",
            )
        tensors = self._checkpoint.tensors()
        _fill(self._tensors, {name.removeprefix("module/"): tensor for name, tensor in tensors.items() if name.startswith("module/")})
        _fill_optimizer(optimizer, tensors, self._loop["numbers"])
        unit = int(self._loop["settings"]["steps_per_epoch"]) if self._loop["settings"]["sampler"] == "shuffle" else 1
        start = -(-self.taken // unit) * unit
        self.lost += start - self.taken
        self.count(start)
        return start

    def count(self, step: int) -> None:
        """Note that `step` counts as taken. To be called before its noise is drawn."""
        self._checkpoint.count(step)

    def between(self, loop: PrivateLoop) -> None:
        """Write a checkpoint between two steps, where it is time for one."""
        if self._checkpoint.due:
            self._save(loop)

    def keep(self, loop: PrivateLoop) -> None:
        """Write a checkpoint now: before the first step, and after the last."""
        self._save(loop)

    def _save(self, loop: PrivateLoop | None) -> None:
        state: dict[str, JSON] = {
            "calls": list(self.calls),
            "statistics": [{"event": event.to_json(), "note": dict(note)} for event, note in self.statistics],
            "answers": [[list(part) for part in answer] for answer in self._answers],
            "loop": None,
        }
        if loop is None or self._optimizer is None:
            self._checkpoint.save(state)
            return
        tensors: dict[str, Tensor] = {f"module/{name}": parameter for name, parameter in self._tensors.items()}
        numbers: dict[str, JSON] = {}
        for index, values in self._optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{index}/{name}"] = value
                else:
                    numbers[f"optimizer/{index}/{name}"] = value
        state["loop"] = {
            "settings": self._settings,
            "planned": loop.planned,
            "taken": loop.executed,
            "lost": self.lost,
            "empty_batches": loop.empty_batches,
            "non_finite": loop.non_finite,
            "numbers": numbers,
        }
        self._checkpoint.save(state, tensors)

    def close(self) -> None:
        """Give the checkpoint's folder free; calling it twice is harmless."""
        self._checkpoint.close()

    def remove(self) -> None:
        """Delete the checkpoint: its run ended."""
        self._checkpoint.remove()

    def counts(self) -> tuple[int, int]:
        """Empty batches and non-finite examples of the earlier processes, as of the last checkpoint."""
        return (0, 0) if self._loop is None else (self._loop["empty_batches"], self._loop["non_finite"])


@torch.no_grad()
def _fill(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    if {name: parameter.shape for name, parameter in parameters.items()} != {name: tensor.shape for name, tensor in tensors.items()}:
        raise IntegrityError("The checkpoint's weights do not fit the model: other names or shapes.")
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], numbers: Mapping[str, JSON]) -> None:
    """Put the moments back. Learning rates and the like stay as they are: the training loop sets them, which goes through all epochs again."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *numbers.items()]:
        if key.startswith("optimizer/"):
            _, index, name = key.split("/", 2)
            state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    shapes = [parameter.shape for group in optimizer.param_groups for parameter in group["params"]]
    if not all(index < len(shapes) for index in state):
        raise IntegrityError("The checkpoint's optimizer does not fit the model's: it has more parameters.")
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _frozen_digest(module: nn.Module) -> str:
    """Hex SHA-256 of everything in the module that is not trained, which a checkpoint does not hold."""
    frozen = {name: parameter for name, parameter in module.named_parameters() if not parameter.requires_grad}
    total = hashlib.sha256()
    for name, tensor in sorted({**frozen, **dict(module.named_buffers())}.items()):
        total.update(f"{name} {tensor_digest(tensor)} ".encode())
    return total.hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """Hex SHA-256 of a tensor's type, shape and bytes."""
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(raw.data)
    return digest.hexdigest()
