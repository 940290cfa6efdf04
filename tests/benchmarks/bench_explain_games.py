"""Shapley values at equal model rows: leverage regression beside shap's KernelExplainer and PermutationExplainer, and coverage of intervals.

The games are exact: every coalition's value is in a table, so that the error is against the true Shapley values. Random games have interactions
up to order four and five; the others are weighted votes, products, a sigmoid of a sum, and trained models (two networks, a forest) with their
features taken from background rows. KernelExplainer runs without its regularisation (``l1_reg=False``), which would set attributions to zero.
Where the rows pay for all coalitions, leverage and Kernel are exact: one seed is run, as there is nothing to draw. Two processes share the games.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: matrices here are small, and threads only get into each other's way

import numpy as np
import shap
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from affidavit_governance.explain import estimate_shapley, shapley_values
from affidavit_governance.explain.estimators.permutation import by_permutations

ROWS, SEEDS = 20, 5
BUDGETS = (256, 512, 1024, 2048, 4096)
COVERAGE = {10: (64, 128, 256, 512), 16: (256, 1024)}
REPETITIONS = 200
BACKGROUND = {10: 16, 16: 4}
"""Rows behind each game of a trained model; 2¹⁶ coalitions of 20 rows take minutes with more."""

GAMES = (
    "interactions to order 4",
    "breast-cancer network",
    "diabetes network",
    "interactions to order 5",
    "weighted vote",
    "sigmoid",
    "product",
    "breast-cancer forest",
)
LARGE = 2
"""So many of the games are played with 16 players beyond 1024 rows, where a run of leverage takes half a second."""

PROCESSES = 2

Array = NDArray[np.float64]


def coalitions(players: int) -> NDArray[np.bool_]:
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def with_interactions(players: int, seed: int, order: int) -> Array:
    """A sum of products of players, as many terms of each order."""
    generator, inside = np.random.default_rng(seed), coalitions(players)
    table = np.zeros(2**players)
    for size in range(1, order + 1):
        for _ in range(3 * players):
            table += generator.normal() * inside[:, generator.choice(players, size, replace=False)].all(axis=1)
    return table


def vote(players: int, seed: int) -> Array:
    """Whether the weights of a coalition reach a quota."""
    generator = np.random.default_rng(seed)
    weight = generator.gamma(2, size=players)
    quota = generator.uniform(0.4, 0.7) * weight.sum()
    return (coalitions(players) @ weight >= quota).astype(float)


def sigmoid(players: int, seed: int) -> Array:
    return 1 / (1 + np.exp(-2 * (coalitions(players) @ np.random.default_rng(seed).normal(size=players))))


def product(players: int, seed: int) -> Array:
    factor = np.random.default_rng(seed).uniform(0.6, 1.6, players)
    return np.where(coalitions(players), factor, factor**-0.5).prod(axis=1)


def trained(players: int, kind: str) -> list[Array]:
    """The games of rows that the model has not seen, each against the same background rows."""
    inputs, target = (load_diabetes if kind == "diabetes network" else load_breast_cancer)(return_X_y=True)
    if inputs.shape[1] < players:  # diabetes has ten features; their products with the third are six more
        inputs = np.hstack([inputs, inputs[:, : players - inputs.shape[1]] * inputs[:, [2]]])
    inputs = StandardScaler().fit_transform(inputs[:, :players])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "breast-cancer network":
            network = MLPClassifier((32, 32), max_iter=400, random_state=0).fit(inputs[:300], target[:300])
            predict = lambda rows: network.predict_proba(rows)[:, 1]  # noqa: E731  # one of three
        elif kind == "diabetes network":
            scaled = (target - target.mean()) / target.std()
            regressor = MLPRegressor(hidden_layer_sizes=(64, 64), max_iter=800, learning_rate_init=0.01, random_state=0)
            predict = regressor.fit(inputs[:300], scaled[:300]).predict
        else:
            predict = RandomForestRegressor(30, max_depth=6, random_state=0).fit(inputs[:300], target[:300]).predict
    inside, background = coalitions(players), inputs[: 5 * BACKGROUND[players] : 5]
    return [np.mean([predict(np.where(inside, inputs[300 + 5 * row], other)) for other in background], axis=0) for row in range(ROWS)]


def tables(players: int, game: str) -> list[Array]:
    """The values of all coalitions, in as many games of this kind as there are rows."""
    made: dict[str, Callable[[int], Array]] = {
        "interactions to order 4": lambda seed: with_interactions(players, seed, 4),
        "interactions to order 5": lambda seed: with_interactions(players, 100 + seed, 5),
        "weighted vote": lambda seed: vote(players, seed),
        "sigmoid": lambda seed: sigmoid(players, seed),
        "product": lambda seed: product(players, seed),
    }
    return [made[game](seed) for seed in range(ROWS)] if game in made else trained(players, game)


def played(table: Array) -> Callable[[NDArray[np.bool_]], Array]:
    place = 2 ** np.arange(int(np.log2(len(table))))
    return lambda inside: table[inside @ place]


def by_shap_kernel(table: Array, players: int, budget: int, seed: int) -> Array:
    explainer = shap.KernelExplainer(lambda rows: played(table)(rows > 0.5), np.zeros((1, players)))
    np.random.seed(seed)  # it draws from the global generator
    return np.asarray(explainer.shap_values(np.ones(players), nsamples=budget - 2, l1_reg=False, silent=True))


def by_shap_permutation(table: Array, players: int, budget: int, seed: int) -> Array:
    explainer = shap.PermutationExplainer(lambda rows: played(table)(rows > 0.5), np.zeros((1, players)), seed=seed)
    return np.asarray(explainer(np.ones((1, players)), max_evals=budget, silent=True).values[0])


def ours(table: Array, players: int, budget: int, seed: int) -> Array:
    return shapley_values(played(table), players, budget, seed=seed)


def error(method: Callable[[Array, int, int, int], Array], games: list[Array], truths: list[Array], budget: int, seeds: int) -> float:
    """Relative L2 error, the median over rows and seeds."""
    errors = []
    for row, (table, truth) in enumerate(zip(games, truths, strict=True)):
        for seed in range(seeds):
            found = method(table, len(truth), budget, 1000 * row + seed)
            errors.append(float(np.linalg.norm(found - truth) / np.linalg.norm(truth)))
    return statistics.median(errors)


def covered(method: str, table: Array, truth: Array, players: int, budget: int) -> float:
    """The share of intervals with the true value inside."""
    game = played(table)
    inside = []
    for seed in range(REPETITIONS):
        found = (
            estimate_shapley(game, players, budget, seed=seed)
            if method == "leverage"
            else by_permutations(lambda part, _: game(part), players, 1, budget, seed=seed)
        )
        inside.append(np.mean(abs(found.values - truth) <= found.errors))
    return float(np.mean(inside))


def measure(players: int, game: str) -> tuple[list[str], list[float]]:
    """Lines on the error of this game at each budget, and the coverage of both methods' intervals at each of theirs."""
    games = tables(players, game)
    truths = [shapley_values(played(table), players) for table in games]
    lines = []
    for budget in BUDGETS if players == 10 or game in GAMES[:LARGE] else BUDGETS[:3]:
        exact = budget >= 2**players
        mine, kernel = (error(method, games, truths, budget, 1 if exact else SEEDS) for method in (ours, by_shap_kernel))
        orders = error(by_shap_permutation, games, truths, budget, SEEDS)
        ratio = "  exact" if exact and kernel < 1e-6 else f"{mine / kernel:.2f}"
        lines.append(f"{game:<26}{budget:>6}{mine:>11.4f}{kernel:>9.4f}{orders:>9.4f}{ratio:>10}{mine / orders:>11.2f}")
    shares = [covered(method, games[0], truths[0], players, budget) for budget in COVERAGE[players] for method in ("leverage", "permutation")]
    return lines, shares


def show(players: int, found: dict[str, tuple[list[str], list[float]]]) -> None:
    print(f"\n{players} players, relative L2 error, median over {ROWS} rows × {SEEDS} seeds")
    print(f"{'game':<26}{'rows':>6}{'leverage':>11}{'Kernel':>9}{'Permut.':>9}{'÷ Kernel':>10}{'÷ Permut.':>11}")
    for lines, _ in found.values():
        print("\n".join(lines))
    print(f"\n{players} players, share of 95 % intervals with the true value inside, one game of each kind, {REPETITIONS} repetitions")
    print(f"{'game':<26}" + "".join(f"{method:>9}{budget:>5}" for budget in COVERAGE[players] for method in ("leverage", "permut.")))
    shares = {game: own for game, (_, own) in found.items()}
    shares["all games"] = [statistics.mean(column) for column in zip(*shares.values(), strict=True)]
    for game, own in shares.items():
        print(f"{game:<26}" + "".join(f"{share:>14.3f}" for share in own), flush=True)


def main() -> None:
    """Print the tables."""
    start = time.perf_counter()
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        jobs = {players: {game: pool.submit(measure, players, game) for game in GAMES} for players in (16, 10)}  # the long ones first
        for players in sorted(jobs):
            show(players, {game: job.result() for game, job in jobs[players].items()})
    print(f"\nTrained models: {BACKGROUND[10]} background rows with 10 players, {BACKGROUND[16]} with 16.", end=" ")
    print(f"16 players beyond 1024 rows: the first {LARGE} games only. {time.perf_counter() - start:.0f} s in all.")


if __name__ == "__main__":
    main()
