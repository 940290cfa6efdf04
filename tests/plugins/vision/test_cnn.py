"""vision.cnn: which columns are images, and what the network does with them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from affidavit.errors import InvalidInput
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.training import Training
from affidavit_plugins.torch_base import PlainEngine
from affidavit_plugins.vision.cnn import CNN
from affidavit_plugins.vision.images import ImageEncoding


def bars(rows=120, side=12, seed=0):
    """Grey images with a horizontal or a vertical bar on noise, uint8."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (rows, side, side), dtype=np.uint8)
    labels = rng.integers(0, 2, rows)
    for image, label, place in zip(images, labels, rng.integers(0, side, rows), strict=True):
        image[place, :] = 255 if label else image[place, :]
        image[:, place] = image[:, place] if label else 255
    return images, np.array(["vertical", "horizontal"])[labels]


def tensors(images):
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))


def dataset(rows=120, seed=0, convert=tensors, **columns):
    images, labels = bars(rows, seed=seed)
    return Dataset.from_arrow(pa.table({"image": convert(images), "label": labels} | columns), target="label")


def pixels(convert, images):
    data = Dataset.from_arrow(pa.table({"image": convert(images)}))
    encoding = ImageEncoding.learn(data)
    return encoding, encoding.pixels(data)


def nested_lists(images):
    array = pa.array(images.reshape(-1))
    for size in reversed(images.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


@pytest.mark.parametrize("convert", [tensors, nested_lists])
@pytest.mark.parametrize(("shape", "axes"), [((6, 5), None), ((6, 5, 3), (2, 0, 1)), ((6, 5, 1), (2, 0, 1)), ((3, 6, 5), (0, 1, 2))])
def test_every_layout_becomes_channels_height_width(convert, shape, axes):
    images = np.random.default_rng(0).integers(0, 256, (7, *shape), dtype=np.uint8)
    encoding, found = pixels(convert, images)
    expected = images[:, None] if axes is None else images.transpose(0, *(axis + 1 for axis in axes))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8
    assert encoding.channels == expected.shape[1]
    assert ImageEncoding.from_json(encoding.to_json()) == encoding


def test_a_permuted_tensor_is_read_in_its_logical_order():
    physical = np.arange(2 * 3 * 5 * 6, dtype=np.float64).reshape(2, 3, 5, 6)
    kind = pa.fixed_shape_tensor(pa.float64(), [3, 5, 6], permutation=[1, 2, 0])
    array = pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(pa.array(physical.reshape(-1)), 90))
    encoding, found = pixels(lambda images: array, physical)
    assert encoding.layout == "HWC"
    np.testing.assert_array_equal(found, physical)


def test_slices_and_chunks_of_a_column_are_read_whole():
    images = np.random.default_rng(0).integers(0, 256, (9, 5, 4), dtype=np.uint8)
    table = pa.concat_tables([pa.table({"image": tensors(images)}).slice(4, 3), pa.table({"image": tensors(images)}).slice(0, 2)])
    data = Dataset.from_arrow(table)
    np.testing.assert_array_equal(ImageEncoding.learn(data).pixels(data)[:, 0], images[[4, 5, 6, 0, 1]])


@pytest.mark.parametrize(("dtype", "divisor"), [(np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 1.0), (np.float64, 1.0)])
def test_the_type_alone_fixes_the_scale(dtype, divisor):
    encoding, _ = pixels(tensors, np.ones((2, 4, 4), dtype=dtype))
    assert encoding.divisor == divisor


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.zeros((2, 4, 4), dtype=np.int32), "int32"),
        (np.zeros((2, 16), dtype=np.uint8), "16"),
        (np.zeros((2, 5, 5, 5), dtype=np.uint8), "5 × 5 × 5"),
        (np.zeros((2, 3, 4), dtype=np.uint8), "3 × 4"),
    ],
)
def test_what_is_no_image_is_refused_with_its_shape_or_type(images, said):
    with pytest.raises(InvalidInput, match=said):
        pixels(tensors, images)


def test_other_features_beside_the_image_are_refused():
    with pytest.raises(InvalidInput, match="1 tensor features and 1 other"):
        CNN().fit(dataset(extra=np.arange(120) % 7))


def test_missing_images_and_pixels_are_refused():
    model = CNN(epochs=1).fit(dataset())
    storage = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * 144, dtype=np.uint8)), 144, mask=pa.array([False, True]))
    kind = pa.fixed_shape_tensor(pa.uint8(), [12, 12])
    with pytest.raises(InvalidInput, match="missing in 1 rows"):
        model.predict(Dataset.from_arrow(pa.table({"image": pa.ExtensionArray.from_storage(kind, storage)})))
    with pytest.raises(InvalidInput, match="not a number"):
        model.predict(Dataset.from_arrow(pa.table({"image": tensors(np.full((2, 12, 12), np.nan))})))


def test_another_image_size_than_in_training_is_refused():
    model = CNN(epochs=1).fit(dataset())
    with pytest.raises(InvalidInput, match="'image'"):
        model.predict(Dataset.from_arrow(pa.table({"image": tensors(bars(2, side=16)[0])})))


def test_it_learns_and_answers_one_image_as_it_does_in_a_batch():
    model = CNN(channels=[8, 8], hidden=16).fit(dataset(300))
    test = dataset(300, seed=1)
    answer = model.predict(test)
    assert float((answer.values == np.array(test.to_list("label"))).mean()) > 0.95
    for row in (0, 255, 256, 299):
        np.testing.assert_allclose(model.predict(test.take([row])).probabilities[0], answer.probabilities[row], atol=1e-6)
    assert len(model.predict(test.head(0))) == 0


def test_images_as_flat_lists_of_numbers_get_the_same_answers():
    # So come the rows of a request over HTTP.
    model, images = CNN(epochs=2).fit(dataset()), bars(5, seed=2)[0]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(images.reshape(-1).astype(np.float64)), 144)
    rows = Dataset(pa.table({"image": flat}), model.signature.inputs)
    as_tensor = model.predict(Dataset.from_arrow(pa.table({"image": tensors(images)})))
    np.testing.assert_allclose(model.predict(rows).probabilities, as_tensor.probabilities, atol=1e-9)


@pytest.mark.parametrize("side", [4, 5, 9])
def test_small_and_odd_sizes_fit(side):
    images, labels = bars(40, side=side)
    model = CNN(epochs=1, channels=[4, 4, 4, 4]).fit(Dataset.from_arrow(pa.table({"image": tensors(images), "label": labels}), target="label"))
    assert model.predict(Dataset.from_arrow(pa.table({"image": tensors(images)}))).probabilities.shape == (40, 2)


def test_saved_and_loaded_it_answers_the_same(saved, loaded):
    data = dataset()
    model = CNN(epochs=1).fit(data, Training(seed=3))
    files = saved(model)
    copy = loaded(model, files)
    assert np.array_equal(copy.predict(data).probabilities, model.predict(data).probabilities)
    assert saved(copy) == files


def test_the_same_seed_gives_the_same_weights(saved):
    first, again, other = (saved(CNN(epochs=1, dropout=0.3).fit(dataset(), Training(seed=seed))) for seed in (1, 1, 2))
    assert first == again
    assert first["weights.safetensors"] != other["weights.safetensors"]


def test_no_layer_mixes_the_images_of_a_batch():
    model = CNN(epochs=1).fit(dataset())
    view, data = model.torch_view(), dataset(4, seed=5)
    view.module.train()
    together = view.module(view.encode(data))
    alone = view.module(view.encode(data.take([2])))
    np.testing.assert_allclose(alone.detach().numpy()[0], together.detach().numpy()[2], atol=1e-5)


def test_nothing_is_read_from_the_pixels_before_the_first_step():
    class Deaf(PlainEngine):
        def center_and_scale(self, columns):
            pytest.fail("an image model needs no statistics")

    CNN(epochs=1).fit(dataset(), Training(engine=Deaf()))


def test_the_private_engine_trains_it(private_engine):
    engine = private_engine(8.0)
    model = CNN(channels=[8, 8], hidden=16, batch_size=100).fit(dataset(500), Training(engine=engine))
    engine.check_finished("vision.cnn")
    test = dataset(200, seed=1)
    assert float((model.predict(test).values == np.array(test.to_list("label"))).mean()) > 0.75
