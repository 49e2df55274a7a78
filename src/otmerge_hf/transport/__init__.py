"""Optimal transport on tensors: no models, torch only. `docs/transport.md` says which function to take."""

from .batch import BatchTransportResult as BatchTransportResult
from .batch import sinkhorn_batch as sinkhorn_batch
from .distributed import gather_clouds as gather_clouds
from .divergence import DivergenceResult as DivergenceResult
from .divergence import sinkhorn_divergence as sinkhorn_divergence
from .exact import wasserstein2 as wasserstein2
from .result import TransportResult as TransportResult
from .sinkhorn import sinkhorn as sinkhorn
from .sinkhorn import sinkhorn_from_cost as sinkhorn_from_cost
from .sliced import sliced_wasserstein as sliced_wasserstein
