"""The records that travel between stages, the errors, and the registries. Nothing here imports torch."""

from secateur.spec.bench import BenchRecord, BenchRow
from secateur.spec.budget import SPARSITY, UNITS, Budget, parse_budgets
from secateur.spec.errors import (
    BudgetError,
    DataError,
    ExportError,
    MissingExtraError,
    ModelError,
    PlanError,
    RegistryError,
    SchemaError,
    ScoreError,
    SecateurError,
    SelectorError,
    StoreError,
    TraceError,
)
from secateur.spec.exported import ExportRecord, Port
from secateur.spec.extras import import_extra
from secateur.spec.masks import ElementMasks
from secateur.spec.plan import Plan
from secateur.spec.registry import Registry
from secateur.spec.run import PastRun, RunRecord, Verification
from secateur.spec.scores import Scores
from secateur.spec.structure import (
    Attribute,
    Axis,
    Block,
    NormAfter,
    Pin,
    Rescale,
    Row,
    Structure,
    TensorSpec,
    Term,
    Tie,
)

__all__ = [
    "SPARSITY",
    "UNITS",
    "Attribute",
    "Axis",
    "BenchRecord",
    "BenchRow",
    "Block",
    "Budget",
    "BudgetError",
    "DataError",
    "ElementMasks",
    "ExportError",
    "ExportRecord",
    "MissingExtraError",
    "ModelError",
    "NormAfter",
    "PastRun",
    "Pin",
    "Plan",
    "PlanError",
    "Port",
    "Registry",
    "RegistryError",
    "Rescale",
    "Row",
    "RunRecord",
    "SchemaError",
    "ScoreError",
    "Scores",
    "SecateurError",
    "SelectorError",
    "StoreError",
    "Structure",
    "TensorSpec",
    "Term",
    "Tie",
    "TraceError",
    "Verification",
    "import_extra",
    "parse_budgets",
]
