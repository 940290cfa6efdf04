"""Regions of tensors as players."""

from __future__ import annotations

import numpy as np
import pytest
from tests.governance.explain.explain_models import Formula, images

from affidavit_governance.explain.methods.sampled import Permutation
from affidavit_governance.explain.players.regions import RegionBlock


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (8, 8, 3), (32,), (2, 40)])
def test_regions_cover_each_element_once_and_find_the_one_that_counts(shape):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (12, *shape)).astype(np.uint8)
    data = images(pixels)
    block = RegionBlock(data.head(3), data, "image", 4)
    full = block.columns(1, np.ones((1, len(block.players)), dtype=bool), np.zeros(1, dtype=int))["image"]
    assert (full.to_numpy_ndarray()[0] == pixels[1]).all()
    corner = (0,) * len(shape)
    model = Formula(lambda d: d.to_numpy("image")[(slice(None), *corner)] / 255, data)
    found = Permutation().explain(model, data.head(3), data)
    others = np.delete(found.values, block._cells[corner], axis=1)
    np.testing.assert_allclose(others, 0, atol=1e-12)
    np.testing.assert_allclose(found.residual, 0, atol=1e-12)
    assert abs(found.values[:, block._cells[corner]]).max() > 0.05
