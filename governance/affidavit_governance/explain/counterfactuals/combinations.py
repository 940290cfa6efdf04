"""Combinations of changes in the order of their cost: what makes a found change provably the nearest of its grid."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

Combination = tuple[tuple[int, int], ...]
"""Pairs of a unit and the place of one of its options."""


def by_cost(costs: Sequence[Sequence[float]], most: int) -> Iterator[tuple[float, Combination]]:
    """All combinations of one option from each of some units, cheapest first, lazily; the combination of no unit is left out.

    Each combination is made once, from the one that is next cheaper along one step: take the last unit's next option, add the next unit,
    or put the next unit in the place of the last. With the options of a unit and the units themselves in the order of cost, no step makes a
    combination cheaper, so a heap gives them in order.

    Parameters
    ----------
    costs
        For each unit the costs of its options, all above zero, in ascending order; a unit without options is passed over.
    most
        Units in one combination.
    """
    units = sorted((unit for unit, options in enumerate(costs) if options), key=lambda unit: (costs[unit][0], unit))
    if not units or most < 1:
        return
    heap: list[tuple[float, Combination]] = [(costs[units[0]][0], ((0, 0),))]
    while heap:
        cost, places = heapq.heappop(heap)
        yield cost, tuple((units[place], option) for place, option in places)
        place, option = places[-1]
        own = costs[units[place]]
        if option + 1 < len(own):
            heapq.heappush(heap, (cost - own[option] + own[option + 1], (*places[:-1], (place, option + 1))))
        if place + 1 < len(units):
            following = costs[units[place + 1]][0]
            if len(places) < most:
                heapq.heappush(heap, (cost + following, (*places, (place + 1, 0))))
            if option == 0:
                heapq.heappush(heap, (cost - own[0] + following, (*places[:-1], (place + 1, 0))))
