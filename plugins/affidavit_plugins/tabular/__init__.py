"""Models of tables: linear models, trees and ensembles on scikit-learn, and a multilayer perceptron on torch.

`EstimatorModel` is the base for a type of somebody's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from affidavit_plugins.tabular.estimator import EstimatorModel, EstimatorParams

__all__ = ["EstimatorModel", "EstimatorParams"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from affidavit_plugins.tabular import estimator

        return getattr(estimator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
