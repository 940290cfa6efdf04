"""Sound model types whose inside is open: bundled ones, so that each check of a structure passes somewhere in the zoo."""

from __future__ import annotations

from tests.conformance.zoo.pen import Pen

from affidavit.testing import ModelCase
from affidavit.testing.kinds.model.subject import ModelSubject
from affidavit_plugins.tabular.linear import Logistic
from affidavit_plugins.tabular.mlp import MLP
from affidavit_plugins.tabular.trees import Tree

PEN = Pen(ModelSubject, "zoo.structured")


@PEN.passes(capabilities=Logistic.capabilities.names)
class Linear(Logistic):
    type = "zoo.structured"


@PEN.passes(capabilities=Tree.capabilities.names)
class Branches(Tree):
    type = "zoo.structured"


@PEN.passes(capabilities=MLP.capabilities.names, case=ModelCase(name="zoo.structured", params={"epochs": 4, "hidden": [4]}))
class Network(MLP):
    type = "zoo.structured"
