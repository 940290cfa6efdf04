"""The private training engine: statistics, batches and steps under one ε."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.errors import InvalidInput, PluginError, Refused
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.training import Release
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import DISCRETIZATION, Event, calibrate, joint_epsilon, joint_rdp_epsilon
from affidavit_governance.privacy.mechanisms import statistics
from affidavit_governance.privacy.mechanisms.releases import PrivateReleases
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.loop import PrivateLoop

STATISTICS_SHARE = 0.1
"""Share of a run's privacy that one call of `center_and_scale` takes, in 1/σ² (which is what adds up when Gaussian noise is composed).

A tenth costs the training about 5 % more noise, and gives 750 records' counts a deviation of about 6 √d for ε = 3, δ = 1e-5.
"""

ENGINE_LIBRARIES = {"native": ("torch",), "opacus": ("torch", "opacus")}


class PrivateEngine:
    """Differentially private training by DP-SGD (Abadi et al. 2016).

    The sampling rate and the divisor come from the declared number of records, never from the private row count. The noise is calibrated,
    by PLD, in `begin`, when all releases and the number of steps are known.

    Parameters
    ----------
    policy
        ε, δ, clipping bound, and the declared number of records.
    reserve
        Called with everything that the run will have released, before it releases more; refuses by raising.
    source
        Where randomness comes from. None, for everything but replay in tests, is the operating system.
    """

    private = True

    def __init__(self, policy: PrivacyPolicy, *, reserve: Callable[[Sequence[Event]], None], source: Randomness | None = None) -> None:
        self._policy = policy
        self._reserve = reserve
        self._source = source or Randomness()
        self._statistics: list[tuple[Event, dict[str, JSON]]] = []
        self._loop: PrivateLoop | None = None
        self._releases: PrivateReleases | None = None
        self._settings: dict[str, JSON] = {}
        self._rate = self._noise_multiplier = math.nan

    # -- what a model asks for ------------------------------------------------------------------------------------------------------

    def center_and_scale(self, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and positive scale of each column, from two noisy histograms of all columns together.

        Raises
        ------
        PluginError
            Training has begun: its noise is calibrated for what was released before.
        Refused
            The run's ε or the data set's budget allows no more statistics.
        """
        if self._loop is not None or self._releases is not None:
            raise PluginError("Statistics were asked for after training began; its noise is calibrated for what was released before.")
        number = columns.shape[1]
        if number == 0:
            return np.zeros(0), np.ones(0)
        sensitivity = math.sqrt(number)
        alone = calibrate(self._policy.epsilon, sampling_rate=1.0, steps=1, delta=self._policy.delta)
        event = Event("gaussian", alone / math.sqrt(STATISTICS_SHARE / 2))
        planned = [*self.events, event, event]
        spent = joint_epsilon(planned, self._policy.delta)
        if spent >= self._policy.epsilon:
            raise Refused(
                f"The model asks for more statistics of its columns than epsilon = {self._policy.epsilon:g} allows.",
                by="privacy",
                line="privacy.epsilon",
                measured=round(spent, 4),
                bound=self._policy.epsilon,
                satisfy="Ask for all columns in one call.",
            )
        self._reserve(planned)
        note: dict[str, JSON] = {"columns": number, "undetermined": 0}

        def release(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
            deviation = event.noise_multiplier * sensitivity
            self._statistics.append((event, note))
            noisy = torch.tensor(counts)
            self._source.add_noise_([noisy], deviation, Purpose.STATISTICS_NOISE, len(self._statistics))
            return noisy.numpy(), deviation

        center, scale, note["undetermined"] = statistics.center_and_scale(columns, release)
        return center, scale

    def vocabulary(self, values: Sequence[str | None]) -> None:
        """None: the categories of a column are not public, so a model hashes them, which costs no privacy."""
        return

    def begin(self, module: Any, optimizer: Any, *, rows: int, batch_size: int, epochs: int, seed: int) -> PrivateLoop:
        """Calibrate the noise and prepare `module` and `optimizer`. The seed plays no part: nobody may be able to repeat the noise.

        Raises
        ------
        Refused
            A layer cannot be trained privately, or the data set's budget is too small.
        PluginError
            A second call.
        """
        if self._loop is not None or self._releases is not None:
            raise PluginError("A model began private training twice; its noise is calibrated for one run.")
        if rows < 1 or batch_size < 1 or epochs < 1:
            raise InvalidInput("Private training needs at least one row, one epoch and a batch size of one.")
        records = self._policy.records or rows
        rate = min(1.0, batch_size / records)
        steps_per_epoch = max(1, -(-records // batch_size))
        released = self.events
        sigma = calibrate(self._policy.epsilon, sampling_rate=rate, steps=steps_per_epoch * epochs, delta=self._policy.delta, extra=released)
        loop = PrivateLoop(
            module,
            optimizer,
            rows=rows,
            sampling_rate=rate,
            expected_batch_size=rate * records,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            noise_multiplier=sigma,
            max_grad_norm=self._policy.max_grad_norm,
            source=self._source,
            engine=self._policy.engine,
        )
        try:
            self._reserve([*released, Event("gaussian", sigma, rate, loop.planned)])
        except BaseException:
            loop.close()
            raise
        self._loop, self._rate, self._noise_multiplier = loop, rate, sigma
        self._settings = {"records": records, "expected_batch_size": rate * records}
        return loop

    def releases(self, plan: Sequence[Release]) -> PrivateReleases:
        """Calibrate the noise of the announced releases, which share what the statistics left of ε.

        Raises
        ------
        Refused
            The data set's budget is too small.
        PluginError
            A second call, or releases that do not exist.
        """
        if self._loop is not None or self._releases is not None:
            raise PluginError("A model began private training twice; its noise is calibrated for one run.")
        policy, released = self._policy, self.events
        releases = PrivateReleases(
            plan,
            epsilon=policy.epsilon,
            delta=policy.delta,
            before=released,
            relation="replace-one" if policy.unit == "label" else policy.relation,
            group_size=policy.unit_records,
            noise_multiplier=policy.noise_multiplier,
            source=self._source,
        )
        self._reserve([*released, *releases.planned])
        self._releases = releases
        return releases

    # -- what governance asks for ---------------------------------------------------------------------------------------------------

    @property
    def events(self) -> tuple[Event, ...]:
        """What was released so far: what really ran, not what was planned."""
        done = [event for event, _ in self._statistics]
        if self._loop is not None and self._loop.executed:
            done.append(Event("gaussian", self._noise_multiplier, self._rate, self._loop.executed))
        if self._releases is not None:
            done += self._releases.executed
        return tuple(done)

    def check_finished(self, model_type: str) -> None:
        """Raise PluginError or Refused unless the model's training went through this engine, to the last step."""
        if self._releases is not None:
            self._releases.check_finished(model_type)
            return
        if self._loop is None:
            raise PluginError(
                f"Model type '{model_type}' claims the capability 'private_training' but did not train through the engine that it was given.",
                hint="The model is not returned: it may have been trained without noise.",
            )
        self._loop.close()
        if self._loop.executed != self._loop.planned:
            raise PluginError(
                f"Model type '{model_type}' took {self._loop.executed} of the {self._loop.planned} private steps that it announced.",
                hint="The model is not returned: stopping early by what the rows say would tell about them.",
            )
        if self._loop.buffers_changed is not None:
            raise Refused(
                f"Buffer '{self._loop.buffers_changed}' of model type '{model_type}' changed in training, without noise.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Use layers without running statistics.",
            )

    def statement(self) -> dict[str, JSON]:
        """What the evidence says of the run: everything that an outsider needs to compute ε again, and what it rests on."""
        policy, loop, events = self._policy, self._loop, self.events
        declared = policy.records is not None
        return {
            "private": True,
            "epsilon": joint_epsilon(events, policy.delta),
            "epsilon_rdp": joint_rdp_epsilon(events, policy.delta),
            "epsilon_allowed": policy.epsilon,
            "delta": policy.delta,
            "unit": policy.unit,
            "relation": policy.relation,
            "sampling_rate": None if loop is None else self._rate,
            "noise_multiplier": None if loop is None else self._noise_multiplier,
            "max_grad_norm": policy.max_grad_norm,
            "steps_planned": 0 if loop is None else loop.planned,
            "steps": 0 if loop is None else loop.executed,
            "empty_batches": 0 if loop is None else loop.empty_batches,
            "non_finite_examples": sum(part.non_finite for part in (loop, self._releases) if part is not None),
            "statistics": [{**event.to_json(), **note} for event, note in self._statistics],
            "releases": [] if self._releases is None else list(self._releases.notes),
            "events": [event.to_json() for event in events],
            "sampler": "poisson",
            "randomness": self._source.description,
            **self._settings,
            "assumed_public": [
                "schema",
                "set of target classes",
                "number of records as declared in the policy" if declared else "number of rows",
                "counts of empty batches and of non-finite examples",
            ],
            "accountant": {
                "name": "PLD",
                "library": "dp-accounting",
                "version": version("dp-accounting"),
                "discretization": DISCRETIZATION,
                "estimate": "pessimistic",
            },
            "engine": {"name": policy.engine, **{library: version(library) for library in ENGINE_LIBRARIES[policy.engine]}},
        }
