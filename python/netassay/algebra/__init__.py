"""Structure: path counts and bounds, and where an architecture compresses; nouns that take a LayerGraph or arrays.

`netassay.measure_structure` makes the graph of a model and measures it.
"""

from netassay.algebra import operations as _operations  # noqa: F401 - fills the table
from netassay.algebra.aggregate import (
    Fields,
    VertexCut,
    aggregate,
    minimum_vertex_cut,
    minimum_vertex_cuts,
    path_shares,
)
from netassay.algebra.bounds import capacity, montufar_bound, serra_regions, vc_bound
from netassay.algebra.graph import Call, LayerGraph, Tensor
from netassay.algebra.measure import Algebra, NetworkAlgebra, measure
from netassay.algebra.receptive import ReceptiveField, receptive_fields
from netassay.algebra.semantics import Leaf, Window, register

__all__ = [
    "Algebra",
    "Call",
    "Fields",
    "LayerGraph",
    "Leaf",
    "NetworkAlgebra",
    "ReceptiveField",
    "Tensor",
    "VertexCut",
    "Window",
    "aggregate",
    "capacity",
    "measure",
    "minimum_vertex_cut",
    "minimum_vertex_cuts",
    "montufar_bound",
    "path_shares",
    "receptive_fields",
    "register",
    "serra_regions",
    "vc_bound",
]
