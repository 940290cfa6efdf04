"""Superpixels: connected pieces of an image with like colours, by SLIC (Achanta, Shaji, Smith, Lucchi, Fua, Süsstrunk 2012) in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COMPACTNESS = 0.5
"""The weight of a grid step's distance against the spread of all the image's colours; lower follows edges closer and gives more ragged pieces."""

_ROUNDS = 10
"""Of k-means, as in section 3 of the paper."""

Labels = NDArray[np.int64]


def superpixels(pixels: NDArray[np.float64], count: int) -> Labels:
    """Cut an image into about `count` connected superpixels, numbered from zero by the place of their first pixel.

    Parameters
    ----------
    pixels
        Height × width × channels, of any scale.

    An image of one colour gives a grid.
    """
    height, width = pixels.shape[:2]
    labels = _clusters(pixels, min(count, height * width))
    return _numbered(_connected(labels))


def _clusters(pixels: NDArray[np.float64], count: int) -> Labels:
    """K-means over colour and place, each centre looking no further than two grid steps (algorithm 1)."""
    height, width, channels = pixels.shape
    step = np.sqrt(height * width / count)
    rows, columns = max(1, round(height / step)), max(1, round(width / step))
    spread = float(np.sqrt(pixels.reshape(-1, channels).var(axis=0).sum()))
    colours = pixels.reshape(-1, channels) / (spread or 1.0)
    y, x = np.divmod(np.arange(height * width), width)
    points = np.column_stack([colours, COMPACTNESS * y / step, COMPACTNESS * x / step])
    labels: Labels = (y * rows // height) * columns + x * columns // width
    for _ in range(_ROUNDS):
        sizes = np.bincount(labels, minlength=rows * columns)
        centres = (
            np.column_stack([np.bincount(labels, weights=point, minlength=rows * columns) for point in points.T]) / np.maximum(sizes, 1)[:, None]
        )
        best = np.full(height * width, np.inf)
        moved = labels.copy()
        for centre in np.flatnonzero(sizes):
            near = np.flatnonzero((abs(points[:, -2:] - centres[centre, -2:]) <= 2 * COMPACTNESS).all(axis=1))
            distance = ((points[near] - centres[centre]) ** 2).sum(axis=1)
            closer = distance < best[near]
            best[near[closer]] = distance[closer]
            moved[near[closer]] = centre
        if (moved == labels).all():
            break
        labels = moved
    return labels.reshape(height, width)


def _connected(labels: Labels) -> Labels:
    """Each label keeps its largest connected piece; neighbours take the other pieces, from their borders inwards."""
    pieces = connected_pieces(labels)
    sizes = np.bincount(pieces.ravel(), minlength=labels.size)
    roots = np.flatnonzero(sizes)
    order = roots[np.lexsort((roots, -sizes[roots]))]
    _, first = np.unique(labels.ravel()[order], return_index=True)
    kept = np.isin(pieces, order[first])
    found = np.where(kept, labels, -1)
    while (found < 0).any():
        open_ = found < 0
        grown = found.copy()
        for axis, shift in ((0, 1), (0, -1), (1, 1), (1, -1)):
            beside = np.roll(found, shift, axis=axis)
            edge = [slice(None), slice(None)]
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            beside[tuple(edge)] = -1
            take = open_ & (grown < 0) & (beside >= 0)
            grown[take] = beside[take]
        found = grown
    return found


def connected_pieces(labels: Labels) -> Labels:
    """The connected piece (by sides) of each pixel, named by the number of its first pixel: hooking and pointer jumping (Shiloach, Vishkin 1982)."""
    number = np.arange(labels.size).reshape(labels.shape)
    across, down = labels[:, 1:] == labels[:, :-1], labels[1:] == labels[:-1]
    left = np.concatenate([number[:, :-1][across], number[:-1][down]])
    right = np.concatenate([number[:, 1:][across], number[1:][down]])
    parent = number.ravel().copy()
    while True:
        one, other = parent[left], parent[right]
        apart = one != other
        if not apart.any():
            return parent.reshape(labels.shape)
        np.minimum.at(parent, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while (parent != parent[parent]).any():
            parent = parent[parent]


def _numbered(labels: Labels) -> Labels:
    values, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    return rank[inverse].reshape(labels.shape)
