"""Model types that claim the capability `onnx`: one whose graph is true, and broken ones."""

from __future__ import annotations

import time

import numpy as np
import onnx
from onnx import helper, numpy_helper
from tests.conformance.zoo.models import Centroid
from tests.conformance.zoo.pen import Pen

from affidavit import Capabilities
from affidavit.interfaces.model import OnnxView
from affidavit.onnx_format import canonical
from affidavit.testing.kinds.model.subject import ModelSubject

PEN = Pen(ModelSubject, "zoo.centroid", capabilities=("probabilities", "onnx"))


@PEN.passes
class Exported(Centroid):
    """The distances to the centres, but for what all classes share, are one matrix product."""

    capabilities = Capabilities(probabilities=True, onnx=True)
    rows = "batch"

    def graph(self, **weights):
        sharp = self.params.sharpness
        values = {"centres": 2 * sharp * self.centres.T, "offset": -sharp * (self.centres**2).sum(axis=1), **weights}
        double = onnx.TensorProto.DOUBLE
        graph = helper.make_graph(
            [helper.make_node("Gemm", ["x", "centres", "offset"], ["scores"]), helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1)],
            "centroids",
            [helper.make_tensor_value_info("x", double, [self.rows, self.centres.shape[1]])],
            [helper.make_tensor_value_info("probabilities", double, [self.rows, len(self.centres)])],
            [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)

    def encode(self, data):
        return {"x": self._matrix(data, self.fitted.inputs, self.mean)[0]}

    def onnx_view(self):
        return OnnxView(canonical(self.graph()), self.encode)


@PEN.caught_by("onnx_graph_reproduces_predict")
class OtherOffset(Exported):
    def onnx_view(self):
        return OnnxView(canonical(self.graph(offset=np.zeros(len(self.centres)))), self.encode)


@PEN.caught_by("onnx_graph_reproduces_predict")
class AsManyRowsAsItWasTried(Exported):
    rows = 24


@PEN.caught_by("onnx_graph_reproduces_predict")
class LeavesGapsToTheGraph(Exported):
    def encode(self, data):
        return {"x": self._matrix(data, self.fitted.inputs, np.nan)[0]}


@PEN.caught_by("onnx_graph_holds_the_model_and_nothing_else")
class SaysWhereItWasWritten(Exported):
    def onnx_view(self):
        model = self.graph()
        model.graph.node[0].metadata_props.add(key="stack_trace", value=__file__)
        return OnnxView(model.SerializeToString(), self.encode)


@PEN.caught_by("onnx_graph_holds_the_model_and_nothing_else")
class NamesItsWeightsAfterAFile(Exported):
    def onnx_view(self):
        model = self.graph()
        model.graph.name = __file__
        return OnnxView(canonical(model), self.encode)


@PEN.caught_by("onnx_graph_holds_the_model_and_nothing_else")
class NamedByTheClock(Exported):
    def onnx_view(self):
        model = self.graph()
        model.graph.name = f"centroids-{time.perf_counter_ns()}"
        return OnnxView(canonical(model), self.encode)


@PEN.caught_by("onnx_graph_holds_the_model_and_nothing_else")
class KeepsItsRows(Exported):
    def fit(self, data, training=None):
        super().fit(data, training)
        self.kept = self._matrix(self.fitted.conform(data), self.fitted.inputs, self.mean)[0]
        return self

    def save(self, files):
        super().save(files)
        files.tensors("kept", {"rows": self.kept})

    @classmethod
    def load(cls, files):
        model = super().load(files)
        model.kept = files.tensors("kept")["rows"]
        return model

    def onnx_view(self):
        return OnnxView(canonical(self.graph(examples=self.kept.astype(np.float32))), self.encode)
