"""The lime library's tabular explainer, over the cells of players instead of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from lime.lime_tabular import LimeTabularExplainer
from numpy.typing import NDArray

from affidavit_governance.explain.surrogates.local import Floats, LocalSurrogate, Places


def library_surrogate(
    background: Places, own: Places, pools: Sequence[tuple[Places, Places]], rows: int, seed: int, answers: Callable[[Places], Floats]
) -> LocalSurrogate:
    """Let the library draw cells and fit, and give each drawn cell the values of a background row in it.

    Parameters
    ----------
    background, own
        Cells of the background rows (rows × players), and of the explained row.
    answers
        The model's answers for places: rows × players, each a background row or -1 for the row's own value.
    """
    players = len(own)
    generator = np.random.default_rng(seed)
    lime = LimeTabularExplainer(
        background.astype(np.float64),
        mode="regression",
        categorical_features=list(range(players)),
        discretize_continuous=False,
        feature_selection="none",
        random_state=np.random.RandomState(seed % 2**32),
    )

    def ask(drawn: NDArray[np.float64]) -> Floats:
        places = np.full(drawn.shape, -1, dtype=np.int64)
        for player, (inside, _) in enumerate(pools):
            for cell in np.unique(drawn[1:, player]):
                at = np.flatnonzero(drawn[:, player] == cell)
                candidates = inside if cell == own[player] else np.flatnonzero(background[:, player] == cell)
                places[at, player] = generator.choice(candidates, len(at))
        places[0] = -1  # the library takes the first row for the explained one
        return answers(places)

    found = lime.explain_instance(own.astype(np.float64), ask, num_features=players, num_samples=rows)
    values = np.zeros(players)
    for player, weight in found.local_exp[1]:
        values[player] = weight
    return LocalSurrogate(values, float(found.intercept[1]), None, float(found.score))
