"""The private training engine: statistics, batches and steps under one ε."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from affidavit.artifacts import canonical_json
from affidavit.errors import InvalidInput, PluginError, Refused, UsageError
from affidavit.interfaces.governance import JSON
from affidavit.interfaces.training import Release
from affidavit.policy import PrivacyPolicy
from affidavit_governance.privacy.accounting import (
    DISCRETIZATION,
    Event,
    accountant,
    calibrate,
    joint_epsilon,
    joint_rdp_epsilon,
    neighbours,
)
from affidavit_governance.privacy.mechanisms import statistics
from affidavit_governance.privacy.mechanisms.releases import PrivateReleases
from affidavit_governance.privacy.randomness import Purpose, Randomness
from affidavit_governance.privacy.training.distributed import Ranks, parameter_bytes
from affidavit_governance.privacy.training.loop import PrivateLoop
from affidavit_governance.privacy.training.meter import epsilon_so_far
from affidavit_governance.privacy.training.norms import batchnorms_replaced
from affidavit_governance.privacy.training.resume import Keeper, Statistic
from affidavit_governance.privacy.training.sampling import make_sampler

STATISTICS_SHARE = 0.1
"""Share of a run's privacy that one call of `center_and_scale` takes, in 1/σ² (which is what adds up when Gaussian noise is composed).

A tenth costs the training about 5 % more noise, and gives 750 records' counts a deviation of about 6 √d for ε = 3, δ = 1e-5.
"""

CERTIFICATE = 1
"""Version of what `PrivateEngine.statement` says; `affidavit_governance.audit.recount` reads it."""

ENGINE_LIBRARIES = {"native": ("torch",), "opacus": ("torch", "opacus")}


class PrivateEngine:
    """Differentially private training by DP-SGD (Abadi et al. 2016).

    The sampling rate and the divisor come from the declared number of records, never from the private row count. The noise is calibrated,
    by PLD, in `begin`, when all releases and the number of steps are known, or it is the one that the policy fixes.

    Parameters
    ----------
    policy
        ε, δ, what they are about, how batches are drawn, clipping bound, and the declared number of records.
    reserve
        Called with everything that the run will have released, before it releases more; refuses by raising.
    source
        Where randomness comes from. None, for everything but replay in tests, is the operating system.
    keeper
        Keeps the run's checkpoint, and knows what earlier processes of the run did.
    ranks
        The processes that train together; `reserve` is then called in the first one alone.
    """

    private = True

    def __init__(
        self,
        policy: PrivacyPolicy,
        *,
        reserve: Callable[[Sequence[Event]], None],
        source: Randomness | None = None,
        keeper: Keeper | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if keeper is not None and ranks is not None:
            raise UsageError("A training in several processes keeps no checkpoint.", hint="Leave out 'checkpoint'.")
        self._policy = policy
        self._reserve = reserve
        self._planned: tuple[Event, ...] = ()
        self._source = source or Randomness()
        self._keeper, self._ranks = keeper, ranks
        self._statistics: list[Statistic] = [] if keeper is None else list(keeper.statistics)
        self._loop: PrivateLoop | None = None
        self._releases: PrivateReleases | None = None
        self._settings: dict[str, JSON] = {}
        self._noise_multiplier = math.nan
        self._closed = False
        self._seen_by = neighbours(policy)

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
        self._check_open()
        if self._loop is not None or self._releases is not None:
            raise PluginError("Statistics were asked for after training began; its noise is calibrated for what was released before.")
        number = columns.shape[1]
        if number == 0:
            return np.zeros(0), np.ones(0)
        known = None if self._keeper is None else self._keeper.answer(number)
        if known is not None:
            return known
        relation, group_size = self._seen_by
        # A record is one count in each column, √d in all. Replaced, it takes one away and adds another, √(2d): less than the 2√d of two
        # records that contribute √d in opposite directions, of which an event says twice its bound.
        bound = math.sqrt(number if relation == "add-or-remove-one" else number / 2)
        alone = calibrate(self._policy.epsilon, sampling_rate=1.0, steps=1, delta=self._policy.delta, relation=relation, group_size=group_size)
        event = Event("gaussian", alone / math.sqrt(STATISTICS_SHARE / 2), 1.0, 1, relation, group_size)
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
        self._set_aside(planned)
        note: dict[str, JSON] = {"columns": number, "bound": bound, "undetermined": 0}

        def release(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
            deviation = event.noise_multiplier * bound
            self._statistics.append((event, note))
            if self._keeper is not None:
                self._keeper.keep_statistics(self._statistics)
            noisy = torch.tensor(counts)
            if self._ranks is None or self._ranks.first:
                self._source.add_noise_([noisy], deviation, Purpose.STATISTICS_NOISE, len(self._statistics))
            if self._ranks is not None:
                self._ranks.send([noisy])
            return noisy.numpy(), deviation

        center, scale, note["undetermined"] = statistics.center_and_scale(columns, release)
        if self._keeper is not None:
            self._keeper.keep_statistics(self._statistics, (center, scale))
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
        self._check_open()
        if self._loop is not None or self._releases is not None:
            raise PluginError("A model began private training twice; its noise is calibrated for one run.")
        if rows < 1 or batch_size < 1 or epochs < 1:
            raise InvalidInput("Private training needs at least one row, one epoch and a batch size of one.")
        policy, released = self._policy, [event for event, _ in self._statistics]
        records = policy.records or rows
        steps_per_epoch = max(1, -(-records // batch_size))
        rate = min(1.0, batch_size / records) if policy.sampler == "poisson" else 1.0 / steps_per_epoch
        plan = make_sampler(policy.sampler, self._source, rows=rows, rate=rate, steps_per_epoch=steps_per_epoch)
        planned = plan.event(steps_per_epoch * epochs, 1.0, *self._seen_by)
        earlier = None if self._keeper is None else self._keeper.settings
        sigma = self._choose_noise(planned, released) if earlier is None else float(earlier["noise_multiplier"])
        settings = {"noise_multiplier": sigma, "sampler": policy.sampler, "sampling_rate": rate, "steps_per_epoch": steps_per_epoch, "epochs": epochs}
        # Inside of the block a failure puts the module's layers back.
        with batchnorms_replaced(module, policy.replace_batchnorm):
            taken = 0 if self._keeper is None else self._keeper.begin(module, optimizer, settings)
            sampling = None if self._ranks is None else self._meet(self._ranks, module, {**settings, "rows": rows})
            loop = PrivateLoop(
                module,
                optimizer,
                rows=rows,
                sampling_rate=rate,
                expected_batch_size=rate * records,
                steps_per_epoch=steps_per_epoch,
                epochs=epochs,
                noise_multiplier=sigma,
                max_grad_norm=policy.max_grad_norm,
                source=self._source,
                engine=policy.engine,
                sampler=policy.sampler,
                keeper=self._keeper,
                taken=taken,
                ranks=self._ranks,
                sampling=sampling,
            )
            try:
                if sigma:
                    self._set_aside([*released, replace(planned, noise_multiplier=sigma)])
                if self._keeper is not None:
                    self._keeper.keep(loop)
            except BaseException:
                loop.close()
                raise
        self._loop, self._noise_multiplier = loop, sigma
        self._settings = {
            "sampling_rate": rate if policy.sampler == "poisson" else None,
            "steps_per_epoch": steps_per_epoch,
            "records": records,
            "expected_batch_size": rate * records,
        }
        return loop

    def _meet(self, ranks: Ranks, module: Any, said: dict[str, JSON]) -> Randomness:
        """Make sure that all processes train the same, from the first one's weights; gives what they draw their batches from."""
        shapes: dict[str, JSON] = {name: list(parameter.shape) for name, parameter in module.named_parameters() if parameter.requires_grad}
        same = {**said, "policy": self._policy.model_dump(mode="json"), "torch": version("torch"), "parameters": shapes}
        ranks.check_same("what they train", canonical_json(same, "What is trained"))
        ranks.send([tensor.detach() for tensor in module.state_dict().values()])
        self._module = module
        return Randomness(ranks.new_key(lambda: self._source.words(Purpose.SAMPLING_KEY, 0, 4).tobytes()))

    def _choose_noise(self, planned: Event, released: Sequence[Event]) -> float:
        """The smallest noise multiplier for `planned` after what was `released`, or the policy's. Raises Refused where that one costs too much."""
        policy, fixed = self._policy, self._policy.noise_multiplier
        if fixed == 0:
            return 0.0
        cost = 0.0 if fixed is None else joint_epsilon([*released, replace(planned, noise_multiplier=fixed)], policy.delta)
        if fixed is not None and cost <= policy.epsilon:
            return fixed
        sigma = calibrate(
            policy.epsilon,
            sampling_rate=planned.sampling_rate,
            steps=planned.steps,
            delta=policy.delta,
            extra=released,
            relation=planned.relation,
            group_size=planned.group_size,
        )
        if fixed is None:
            return sigma
        raise Refused(
            f"A noise multiplier of {fixed:g} costs epsilon {cost:.4g}, and the policy allows {policy.epsilon:g}.",
            by="privacy",
            line="privacy.noise_multiplier",
            measured=round(cost, 4),
            bound=policy.epsilon,
            satisfy=f"A noise multiplier of {math.ceil(sigma * 1000) / 1000:g} would do.",
        )

    def releases(self, plan: Sequence[Release]) -> PrivateReleases:
        """Calibrate the noise of the announced releases, which share what the statistics left of ε.

        Raises
        ------
        Refused
            The data set's budget is too small.
        PluginError
            A second call, or releases that do not exist.
        """
        self._check_open()
        if self._loop is not None or self._releases is not None:
            raise PluginError("A model began private training twice; its noise is calibrated for one run.")
        if self._keeper is not None or self._ranks is not None:
            raise UsageError(
                "This model type trains without steps: it has no checkpoints and trains in one process.",
                hint="Leave out 'checkpoint' and 'distributed'.",
            )
        policy, released = self._policy, self.events
        releases = PrivateReleases(
            plan,
            epsilon=policy.epsilon,
            delta=policy.delta,
            before=released,
            relation=self._seen_by[0],
            group_size=self._seen_by[1],
            noise_multiplier=policy.noise_multiplier,
            source=self._source,
        )
        self._set_aside([*released, *releases.planned])
        self._releases = releases
        return releases

    def spent(self) -> tuple[float, float]:
        """About the ε that was spent so far, and the ε that the policy allows."""
        if self._policy.without_noise:
            return math.inf, self._policy.epsilon
        return epsilon_so_far(self.events, self._planned, self._policy.delta), self._policy.epsilon

    def _check_open(self) -> None:
        if self._closed:
            raise PluginError("A model goes on with private training after its call ended; what it spent is settled.")

    def _set_aside(self, planned: Sequence[Event]) -> None:
        if self._ranks is None:
            self._reserve(planned)
        else:
            self._ranks.first_does(lambda: self._reserve(planned))
        self._planned = tuple(planned)

    # -- what governance asks for ---------------------------------------------------------------------------------------------------

    @property
    def events(self) -> tuple[Event, ...]:
        """What was released so far: what really ran, not what was planned."""
        done = [event for event, _ in self._statistics]
        if self._loop is not None and self._loop.executed and self._noise_multiplier:
            done.append(self._loop.sampler.event(self._loop.executed, self._noise_multiplier, *self._seen_by))
        if self._loop is None and self._keeper is not None:
            done += self._keeper.taken_before(self._seen_by)
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
        if self._ranks is not None:
            self._ranks.check_same("the parameters that they trained", parameter_bytes(self._module))
        if self._loop.frozen_changed is not None:
            raise Refused(
                f"Parameter '{self._loop.frozen_changed}' of model type '{model_type}' is not trained, and changed in training, without noise.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Let the optimizer train it, or let nothing change it; average weights after training.",
            )
        if self._loop.buffers_changed is not None:
            raise Refused(
                f"Buffer '{self._loop.buffers_changed}' of model type '{model_type}' changed in training, without noise.",
                by="privacy",
                line="privacy.epsilon",
                satisfy="Use layers without running statistics.",
            )

    def close(self) -> None:
        """Release nothing more, whoever still holds the loop or the releases: from here on the run is settled. Calling it twice is harmless."""
        if self._loop is not None:
            self._loop.close()
        if self._releases is not None:
            self._releases.close()
        self._closed = True

    def statement(self) -> dict[str, JSON]:
        """What the evidence says of the run: everything that an outsider needs to compute ε again, and what it rests on."""
        policy, loop, events = self._policy, self._loop, self.events
        declared = policy.records is not None
        private = not policy.without_noise
        return {
            "certificate": CERTIFICATE,
            "private": private,
            "epsilon": joint_epsilon(events, policy.delta) if private else None,
            "epsilon_rdp": joint_rdp_epsilon(events, policy.delta) if private else None,
            "epsilon_allowed": policy.epsilon,
            "delta": policy.delta,
            "unit": policy.unit,
            "unit_records": policy.unit_records,
            "user": policy.user,
            "relation": self._seen_by[0],
            "sampler": None if loop is None else loop.sampler.name,
            "sampling_rate": None,
            "noise_multiplier": None if loop is None else self._noise_multiplier,
            "max_grad_norm": policy.max_grad_norm,
            "steps_planned": 0 if loop is None else loop.planned,
            "steps": 0 if loop is None else loop.executed,
            "empty_batches": 0 if loop is None else loop.empty_batches,
            "non_finite_examples": sum(part.non_finite for part in (loop, self._releases) if part is not None),
            "statistics": [{**event.to_json(), **note} for event, note in self._statistics],
            "releases": [] if self._releases is None else list(self._releases.notes),
            "events": [event.to_json() for event in events],
            "continues": [] if self._keeper is None else list(self._keeper.earlier_calls),
            "processes": 1 if self._ranks is None else self._ranks.size,
            "steps_lost": 0 if self._keeper is None else self._keeper.lost,
            "randomness": self._source.description,
            **self._settings,
            "assumed_public": [
                "schema",
                "set of target classes",
                "number of records as declared in the policy" if declared else "number of rows",
                "counts of empty batches and of non-finite examples",
            ],
            "accountant": {
                "name": accountant(events),
                "library": "dp-accounting",
                "version": version("dp-accounting"),
                "discretization": DISCRETIZATION,
                "estimate": "pessimistic",
            },
            "engine": {"name": policy.engine, **{library: version(library) for library in ENGINE_LIBRARIES[policy.engine]}},
        }
