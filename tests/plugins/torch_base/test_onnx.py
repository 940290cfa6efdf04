"""ONNX graphs of the bundled types: they answer as `predict` does, are the same each time, and writing them disturbs nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
import torch
from pyarrow import csv
from torch import nn

from affidavit.artifacts import saved_in_memory
from affidavit.errors import MissingExtra, PluginError, UsageError
from affidavit.interfaces.dataset import Dataset
from affidavit.interfaces.model import Task
from affidavit.interfaces.schema import Field, FieldType
from affidavit.interfaces.training import Training
from affidavit.onnx_format import INPUT, deviation, notes, session
from affidavit.plugins import bundled_registry
from affidavit.testing.process_state import left_alone
from affidavit.testing.samples import images, mixed_table, regression_table
from affidavit_plugins.torch_base.onnx_layers import layered_graph
from affidavit_plugins.torch_base.target import Target

CREDIT = Path(__file__).parents[3] / "examples/credit/german_credit.csv"
PERSONAL = ("full_name", "email", "phone", "iban", "national_id")
DOUBLE, SINGLE = 1e-13, 1e-6
"""How far rounding may take an answer in each precision."""


def credit(target):
    table = csv.read_csv(CREDIT).drop_columns(list(PERSONAL))
    return Dataset.from_arrow(table, name="credit", target=target)


def three_classes():
    data = mixed_table()
    labels = np.random.default_rng(1).choice(["low", "middle", "high"], len(data))
    table = data.table.drop_columns(["label"]).append_column("label", pa.array(labels))
    return Dataset.from_arrow(table, name="three", target="label")


def pictures(side, kind, layout):
    most = {np.uint16: 65535}.get(kind, 1)
    pixels = (np.random.default_rng(2).random((60, *layout(side))) * most).astype(kind)
    label = np.where(pixels.reshape(60, -1)[:, : side * 2].mean(axis=1) > most / 2, "bright", "dark")
    return Dataset.from_arrow({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels), "label": label}, name="pictures", target="label")


CASES = {
    "credit by mlp": ("tabular.mlp", {"epochs": 2, "dropout": 0.2}, lambda: credit("credit_risk"), DOUBLE),
    "credit by relu": ("tabular.mlp", {"epochs": 2, "activation": "relu", "hidden": [16]}, lambda: credit("credit_risk"), DOUBLE),
    "no hidden layer": ("tabular.mlp", {"epochs": 1, "hidden": []}, mixed_table, DOUBLE),
    "three classes by mlp": ("tabular.mlp", {"epochs": 1}, three_classes, DOUBLE),
    "credit amount by mlp": ("tabular.mlp", {"epochs": 2}, lambda: credit("credit_amount"), DOUBLE),
    "credit by logistic": ("tabular.logistic", {}, lambda: credit("credit_risk"), DOUBLE),
    "three classes by logistic": ("tabular.logistic", {}, three_classes, DOUBLE),
    "credit amount by linear": ("tabular.linear", {}, lambda: credit("credit_amount"), DOUBLE),
    "credit by additive": ("tabular.additive", {}, lambda: credit("credit_risk"), DOUBLE),
    "three classes by additive": ("tabular.additive", {}, three_classes, DOUBLE),
    "amount by additive": ("tabular.additive", {}, regression_table, DOUBLE),
    "pictures": ("vision.cnn", {"epochs": 1, "dropout": 0.2}, images, SINGLE),
    "odd pictures": ("vision.cnn", {"epochs": 1, "channels": [4]}, lambda: pictures(9, np.uint16, lambda n: (n, n + 4, 3)), SINGLE),
    "small pictures": ("vision.cnn", {"epochs": 1, "channels": [4, 8]}, lambda: pictures(5, np.float32, lambda n: (3, n, n)), SINGLE),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    kind, params, data, rounding = CASES[request.param]
    rows = data()
    return bundled_registry().get("model", kind)(**params).fit(rows, Training(seed=3)), rows, rounding


def numbers(model, rows):
    found = model.predict(rows)
    return np.asarray(found.probabilities if found.classes else found.values)


def test_the_graph_answers_as_predict_does(case):
    model, rows, rounding = case
    view = model.onnx_view()
    apart = deviation(view, model.fitted.conform(rows), numbers(model, rows))
    print(f"{model.type}, {len(rows)} rows: {apart:.2g}")
    assert apart <= rounding


def test_one_row_more_rows_and_a_slice_of_them_are_answered(case):
    model, rows, rounding = case
    view = model.onnx_view()
    run, whole = session(view.graph), numbers(model, rows)
    for start, end in ((0, 1), (3, 5), (7, 40)):
        data = model.fitted.conform(rows.take(np.arange(start, end)))
        assert np.allclose(run(view.encode(data)), whole[start:end], rtol=rounding, atol=rounding)


def test_no_rows_are_encoded_to_no_rows_of_the_same_width(case):
    model, rows, _ = case
    view = model.onnx_view()
    some, none = (view.encode(model.fitted.conform(rows.head(n)))[INPUT] for n in (2, 0))
    assert none.shape == (0, *some.shape[1:]) and none.dtype == some.dtype


def test_the_same_model_gives_the_same_bytes_also_after_its_artifact_was_read(case):
    model, _, _ = case
    graph = model.onnx_view().graph
    assert model.onnx_view().graph == graph
    reader, _ = saved_in_memory(model)
    assert type(model).load(reader).onnx_view().graph == graph


def test_the_graph_is_sound_and_holds_no_notes_and_one_input_and_output(case):
    model, _, _ = case
    graph = model.onnx_view().graph
    assert notes(graph) == []
    parsed = onnx.load_from_string(graph)
    assert (parsed.ir_version, [(each.domain, each.version) for each in parsed.opset_import]) == (8, [("", 18)])
    output = "values" if model.fitted.task is Task.REGRESSION else "probabilities"
    assert [each.name for each in parsed.graph.input] == [INPUT] and [each.name for each in parsed.graph.output] == [output]
    assert {each.type.tensor_type.shape.dim[0].dim_param for each in (*parsed.graph.input, *parsed.graph.output)} == {"batch"}


def test_a_target_far_from_zero_loses_no_digits():
    """Constants in single precision, as torch's exporter writes them, would be off by a thousandth here."""
    data = regression_table()
    far = pa.array(data.to_numpy("amount") + 1e5)
    data = Dataset.from_arrow(data.table.drop_columns(["amount"]).append_column("amount", far), name="far", target="amount")
    model = bundled_registry().get("model", "tabular.mlp")(epochs=1).fit(data, Training())
    view = model.onnx_view()
    assert abs(session(view.graph)(view.encode(model.fitted.conform(data))) - model.predict(data).values).max() < 1e-9


def test_a_privately_trained_model_is_exported_the_same_way(private_engine):
    data = mixed_table()
    model = bundled_registry().get("model", "tabular.mlp")(epochs=1).fit(data, Training(engine=private_engine(3.0)))
    assert deviation(model.onnx_view(), model.fitted.conform(data), numbers(model, data)) <= DOUBLE


SCRIPT = """
import hashlib
from affidavit.interfaces.training import Training
from affidavit.plugins import bundled_registry
from affidavit.testing.samples import images, mixed_table
digests = []
for kind, data in (("tabular.mlp", mixed_table()), ("vision.cnn", images()), ("tabular.additive", mixed_table())):
    params = {} if kind == "tabular.additive" else {"epochs": 1}
    graph = bundled_registry().get("model", kind)(**params).fit(data, Training(seed=3)).onnx_view().graph
    digests.append(hashlib.sha256(graph).hexdigest())
"""


def test_another_process_writes_the_same_bytes(tmp_path):
    here: dict[str, list[str]] = {}
    exec(SCRIPT, here)
    done = subprocess.run(
        [sys.executable, "-c", f"{SCRIPT}print(*digests)"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == here["digests"] and len(here["digests"]) == 3
    assert not done.stderr


def test_writing_a_graph_leaves_the_process_as_it_was():
    data = mixed_table()
    model = bundled_registry().get("model", "tabular.mlp")(epochs=1).fit(data, Training())
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    with left_alone() as changed:
        model.onnx_view()
    assert changed == []
    assert all(torch.equal(value, model.module.state_dict()[name]) for name, value in weights.items()) and not model.module.training


def test_others_may_train_and_predict_while_a_graph_is_written():
    """Torch's own exporter fails this: it puts tracing values in the place of weights, and hooks into everything that runs meanwhile."""
    data, mlp = mixed_table(), bundled_registry().get("model", "tabular.mlp")
    model = mlp(epochs=1, dropout=0.2).fit(data, Training(seed=5))
    expected, graph = numbers(model, data), model.onnx_view().graph
    written, wrong, stop = count(), [], threading.Event()

    def write():
        while not stop.is_set():
            next(written)
            if model.onnx_view().graph != graph:
                wrong.append("graph")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            again = mlp(epochs=1, dropout=0.2).fit(data, Training(seed=5))
            wrong += [what for what, each in (("predict", model), ("fit", again)) if not np.array_equal(numbers(each, data), expected)]
    finally:
        stop.set()
        writer.join()
    assert wrong == [] and next(written) > 3


LAYERS = {
    "strides": [nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.GroupNorm(4, 8), nn.Flatten(), nn.Linear(8 * 5 * 4, 3)],
    "dilated groups without bias": [
        nn.Conv2d(3, 6, (3, 2), dilation=2, groups=3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 5 * 6, 2, bias=False),
    ],
    "overlapping pools": [nn.MaxPool2d(3, stride=2, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 5 * 4, 2)],
    "pool to the edge": [nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(3 * 5 * 4, 2)],
    "grid that fits": [nn.AdaptiveAvgPool2d((3, 4)), nn.Flatten(), nn.Linear(3 * 12, 2)],
    "grid that does not": [nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(3 * 25, 2)],
    "grid of one side": [nn.AdaptiveAvgPool2d((None, 3)), nn.Flatten(), nn.Linear(3 * 27, 2)],
    "plain norm": [nn.GroupNorm(1, 3, affine=False, eps=0.1), nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * 72, 2))],
}


def classes_of(number):
    return Target(Field("y", FieldType.CATEGORICAL), Task.MULTICLASS, tuple(map(str, range(number))))


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_written_as_torch_computes_it(name):
    generator = torch.Generator().manual_seed(1)
    module = nn.Sequential(*LAYERS[name]).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
        rows = torch.randn((4, 3, 9, 8), generator=generator)
        output = module(rows)
    target = classes_of(output.shape[1])
    graph = layered_graph([module], target, rows[:1] * 0)
    assert np.allclose(session(graph)({INPUT: rows.numpy()}), target.answers(output).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "said"), [(nn.GELU(), "GELU"), (nn.BatchNorm2d(3), "BatchNorm2d"), (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "pads")]
)
def test_a_layer_that_cannot_be_written_is_named(layer, said):
    with pytest.raises(PluginError, match=said):
        layered_graph([layer.eval(), nn.Flatten()], classes_of(3), torch.zeros((1, 3, 4, 4)))


def test_types_without_the_capability_say_so():
    registry = bundled_registry()
    claimed = set(registry.names("model", capability="onnx"))
    assert claimed == {"tabular.additive", "tabular.linear", "tabular.logistic", "tabular.mlp", "vision.cnn"}
    for name in set(registry.names("model")) - claimed:
        with pytest.raises(PluginError, match="no ONNX view"):
            registry.get("model", name)().onnx_view()


def test_an_unfitted_model_says_so():
    for name in bundled_registry().names("model", capability="onnx"):
        with pytest.raises(UsageError, match="not fitted"):
            bundled_registry().get("model", name)().onnx_view()


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    data = mixed_table()
    models = [bundled_registry().get("model", name)().fit(data, Training()) for name in ("tabular.logistic",)]
    models.append(bundled_registry().get("model", "tabular.mlp")(epochs=1).fit(data, Training()))
    graph = models[0].onnx_view().graph
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for model in models:
        with pytest.raises(MissingExtra, match=r"'onnx'.*pip install 'affidavit\[onnx\]'"):
            model.onnx_view()
    with pytest.raises(MissingExtra, match=r"'onnxruntime'.*pip install 'affidavit\[onnx\]'"):
        session(graph)
