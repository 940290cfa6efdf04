"""Exact attributions of tree ensembles: arrays in, arrays out."""

from affidavit_governance.explain.trees.ensemble import Ensemble, read_ensemble
from affidavit_governance.explain.trees.values import TreeValues, interventional_values, path_dependent_values

__all__ = ["Ensemble", "TreeValues", "interventional_values", "path_dependent_values", "read_ensemble"]
