"""Optimal transport on tensors: no models, torch only. See docs/transport.md for which door to take."""

from .divergence import DivergenceResult as DivergenceResult
from .divergence import sinkhorn_divergence as sinkhorn_divergence
from .result import TransportResult as TransportResult
from .sinkhorn import sinkhorn as sinkhorn
from .sinkhorn import sinkhorn_from_cost as sinkhorn_from_cost
