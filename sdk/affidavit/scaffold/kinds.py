"""What a project of each kind holds besides what all of them share. The code itself is in ``templates/``, one folder a kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of plugin project.

    Attributes
    ----------
    noun
        The kind in words.
    description
        What the plugin does that is written: one sentence.
    registry
        The kind's name in the registry, and that of the fixture by which the kit's suite asks for the class.
    thing
        What it registers; the package's name stands before it.
    module, cls
        Where its code is.
    case, suite
        How the kit calls a case of this kind, and the suite of its checks.
    needs
        Distributions that its code imports besides Affidavit itself.
    capabilities
        What the registration claims.
    """

    noun: str
    description: str
    registry: str
    thing: str
    module: str
    cls: str
    case: str
    suite: str
    needs: tuple[str, ...]
    capabilities: tuple[str, ...] = ()


KINDS = {
    "model": Kind(
        noun="model type",
        description="A nearest-centroid classifier.",
        registry="model",
        thing="centroid",
        module="model",
        cls="NearestCentroid",
        case="ModelCase",
        suite="ModelSuite",
        needs=("numpy", "pydantic"),
        capabilities=("probabilities",),
    ),
    "dataset": Kind(
        noun="source of data sets",
        description="Reads GeoJSON files.",
        registry="source",
        thing="geojson",
        module="source",
        cls="GeoJson",
        case="SourceCase",
        suite="DatasetSuite",
        needs=("pyarrow",),
    ),
    "target": Kind(
        noun="deployment target",
        description="Answers in the caller's process, and bounds the size of a batch.",
        registry="target",
        thing="bounded",
        module="target",
        cls="Bounded",
        case="TargetCase",
        suite="DeploymentSuite",
        needs=(),
    ),
    "recognizer": Kind(
        noun="recognizer of personal data",
        description="Finds customer numbers by their check digit.",
        registry="recognizer",
        thing="customer_number",
        module="recognizer",
        cls="CustomerNumber",
        case="RecognizerCase",
        suite="RecognizerSuite",
        needs=("pydantic",),
    ),
    "operator": Kind(
        noun="masking operator",
        description="Masks values by short keyed pseudonyms.",
        registry="operator",
        thing="alias",
        module="operator",
        cls="Alias",
        case="OperatorCase",
        suite="OperatorSuite",
        needs=("pyarrow", "pydantic"),
    ),
    "key-provider": Kind(
        noun="key provider",
        description="Keeps a workspace's key in a file that an environment variable names.",
        registry="key_provider",
        thing="key_file",
        module="key_provider",
        cls="KeyFile",
        case="KeyProviderCase",
        suite="KeyProviderSuite",
        needs=("cryptography",),
    ),
    "explainer": Kind(
        noun="explainer",
        description="Explains rows by exact Shapley values, for models of few fields.",
        registry="explainer",
        thing="shapley",
        module="explainer",
        cls="Shapley",
        case="ExplainerCase",
        suite="ExplainerSuite",
        needs=("numpy", "pyarrow"),
    ),
}
"""By the name that ``--kind`` takes."""
