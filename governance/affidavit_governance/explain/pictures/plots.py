"""The door to the pictures of an explanation: kinds by name, files by ending."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from affidavit.errors import UsageError, nearest
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.explanation import Explanation
from affidavit_governance.explain.pictures import bar, beeswarm, dependence, force, regions, text, waterfall
from affidavit_governance.explain.pictures.canvas import draw, ending
from affidavit_governance.explain.pictures.captions import check_row
from affidavit_governance.explain.pictures.drawing import Asked, Plan

KINDS: dict[str, Callable[[Explanation, Asked], Plan]] = {
    "waterfall": waterfall.plan,
    "bar": bar.plan,
    "beeswarm": beeswarm.plan,
    "force": force.plan,
    "text": text.plan,
    "image": regions.image_plan,
    "sound": regions.sound_plan,
    "dependence": dependence.plan,
}


def plot_explanation(
    explanation: Explanation,
    path: str | Path,
    *,
    row: int = 0,
    kind: str = "waterfall",
    data: Dataset | None = None,
    player: str | None = None,
    colour: str | None = None,
) -> None:
    """Draw an explanation to a PNG, SVG or HTML file, with 95 % intervals where the attributions are estimates.

    Parameters
    ----------
    row
        Which row a waterfall, force, text, image or sound shows; the other kinds show all rows.
    kind
        ``"waterfall"``, ``"bar"``, ``"beeswarm"``, ``"force"``, ``"text"``, ``"image"``, ``"sound"`` or ``"dependence"``.
    data
        The explained rows, for ``"image"`` and ``"sound"``: records hold no pictures.
    player, colour
        For ``"dependence"``: the player along the axis and the one that colours the points; default the strongest.

    Raises
    ------
    UsageError
        The row, the kind, the player or the file ending does not exist, or the explanation has not what the kind shows.
    """
    ending(path)
    if kind not in KINDS:
        raise UsageError(f"There is no plot '{kind}'.{nearest(str(kind), KINDS)}", hint=f"Plots: {', '.join(KINDS)}.")
    check_row(explanation, row)
    plan = KINDS[kind](explanation, Asked(row, data, player, colour))
    draw(path, plan.width, plan.height, plan.paint, f"{explanation.method}: {kind}")
