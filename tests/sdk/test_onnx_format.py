"""Graphs on the way out: what is taken out of them, and how they are run and compared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import helper

from affidavit.errors import InvalidInput, PluginError
from affidavit.interfaces.model import OnnxView
from affidavit.onnx_format import INPUT, Graph, canonical, deviation, notes, session
from affidavit.testing.samples import number_table

WEIGHTS = np.arange(6.0).reshape(3, 2)


def scores():
    graph = Graph((3,), np.float64)
    return graph, graph.add("Gemm", INPUT, WEIGHTS, np.array([0.5, -0.5]))


def test_a_graph_answers_what_was_written():
    graph, name = scores()
    rows = np.random.default_rng(0).normal(size=(5, 3))
    powers = np.exp(rows @ WEIGHTS + [0.5, -0.5])
    assert np.allclose(session(graph.probabilities(name, 2))({INPUT: rows}), powers / powers.sum(axis=1, keepdims=True), atol=1e-14)
    single = Graph((3,), np.float32)
    values = single.values(single.add("Gemm", INPUT, WEIGHTS[:, :1].astype(np.float32)), center=1e6, scale=2.0)
    answered = session(values)({INPUT: rows.astype(np.float32)})
    assert answered.shape == (5,) and answered.dtype == np.float64
    assert np.allclose(answered, 2 * (rows @ WEIGHTS[:, 0]) + 1e6, atol=1e-5)


def with_notes():
    """A graph with a subgraph, with notes in every place that ONNX has for them."""
    branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"], doc_string="/home/somebody/model.py")], "branch", [], [
        helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, ["batch"])
    ])  # fmt: skip
    info = [helper.make_tensor_value_info(name, kind, ["batch"] if name != "flag" else []) for name, kind in (("x", 11), ("flag", 9))]
    out = helper.make_tensor_value_info("values", onnx.TensorProto.DOUBLE, ["batch"], doc_string="/home/somebody")
    graph = helper.make_graph([helper.make_node("If", ["flag"], ["values"], then_branch=branch, else_branch=branch)], "main", info, [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, doc_string="by somebody")
    model.metadata_props.add(key="user", value="somebody")
    model.graph.node[0].metadata_props.add(key="stack_trace", value="/home/somebody/train.py, line 7")
    model.graph.value_info.add(name="y")
    return model


def test_notes_are_taken_out_wherever_they_stand():
    model = with_notes()
    before = model.SerializeToString()
    assert notes(before) == ["doc_string", "metadata_props"] and b"somebody" in before
    graph = canonical(model)
    assert notes(graph) == [] and b"somebody" not in graph
    assert [node.op_type for node in onnx.load_from_string(graph).graph.node] == ["If"]


def test_weights_in_another_file_are_told_of():
    graph, name = scores()
    model = onnx.load_from_string(graph.probabilities(name, 2))
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location="weights.bin")
    with pytest.raises(InvalidInput, match="no sound ONNX graph"):
        notes(model.SerializeToString())


@pytest.mark.parametrize("graph", [b"", b"no graph", b"\x80\x05."])
def test_bytes_that_are_no_graph_are_refused(graph):
    for read in (notes, session):
        with pytest.raises(InvalidInput, match="graph"):
            read(graph)


def test_an_unsound_graph_is_not_written():
    graph, _ = scores()
    with pytest.raises(PluginError, match="does not hold together"):
        graph.probabilities("no_such_name", 2)


def test_rows_that_do_not_fit_are_refused_without_a_word_of_them(capfd):
    graph, name = scores()
    run = session(graph.probabilities(name, 2))
    for wrong in ({INPUT: np.full((2, 4), 918273.0)}, {"other": np.ones((2, 3))}, {INPUT: np.array([["918273"] * 3])}):
        with pytest.raises(InvalidInput, match="could not run") as raised:
            run(wrong)
        assert "918273" not in str(raised.value) and raised.value.__context__ is None
    assert capfd.readouterr() == ("", "")


def test_a_session_answers_several_threads():
    graph, name = scores()
    run = session(graph.probabilities(name, 2))
    rows = [np.random.default_rng(seed).normal(size=(50, 3)) for seed in range(8)]
    alone = [run({INPUT: each}) for each in rows]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: run({INPUT: each}), rows))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_the_deviation_is_the_largest_difference_over_the_largest_number():
    graph = Graph((3,), np.float64)
    written = graph.values(graph.add("Gemm", INPUT, WEIGHTS[:, :1]), scale=100.0)
    data = number_table().features()
    view = OnnxView(written, lambda rows: {INPUT: np.stack([rows.to_numpy(name) for name in rows.schema.names], axis=1)})
    expected = 100 * (view.encode(data)[INPUT] @ WEIGHTS[:, 0])
    assert deviation(view, data, expected) < 1e-15
    off = expected.copy()
    off[5] += 1.0
    assert deviation(view, data, off) == pytest.approx(1.0 / abs(off).max())
    assert deviation(view, data, expected[:-1]) == deviation(view, data, expected[:, None]) == float("inf")
    assert deviation(view, data, np.where(np.arange(len(expected)) == 3, np.nan, expected)) == float("inf")
