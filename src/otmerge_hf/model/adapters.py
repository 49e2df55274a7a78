"""Maps from an encoder's space into the shared space, and back as far as each can go."""

import torch
from torch import nn
from transformers import initialization as init


class Adapter(nn.Module):
    """A token-wise map f: R^in_dim -> R^out_dim that says how it can be inverted.

    `invertibility` is one of `"exact"` (square and bijective), `"left-inverse"` (inverse(f(x)) = x, but not every z is
    some f(x)), `"learned"` (a decoder approximates the inverse), `"none"` (the best linear guess loses information).
    """

    def __init__(self, in_dim: int, out_dim: int, decoder: nn.Module | None = None):
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.decoder = decoder

    @property
    def invertibility(self) -> str:
        """`"exact"`, `"left-inverse"`, `"learned"` or `"none"`."""
        if self.in_dim == self.out_dim:
            return "exact"
        if self.out_dim > self.in_dim:
            return "left-inverse"
        return "learned" if self.decoder is not None else "none"

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """Map shared points (..., out_dim) back to the encoder's space (..., in_dim)."""
        raise NotImplementedError

    def load_affine(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Take over the affine map weight (out_dim, in_dim), bias (out_dim,), as a closed-form fit found it.

        Raises:
            ValueError: If this kind of adapter cannot be that map.
        """
        raise ValueError(
            f"A {type(self).__name__} cannot take over an affine map; build the model with "
            '`adapter_type="linear"` (or `"orthogonal"`, `"monge"` for fits of that kind).'
        )

    def _check_affine(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        expected = (self.out_dim, self.in_dim)
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ValueError(
                f"The fit's map has shapes {tuple(weight.shape)} and {tuple(bias.shape)}; expected {expected} and "
                f"({self.out_dim},). Fit with `shared_dim={self.out_dim}`, or build the model with the fit's."
            )

    def init_weights(self, std: float) -> None:
        """Initialise parameters; called by the model's `_init_weights`, also for those a checkpoint lacks."""


def mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Two linear maps with a GELU between."""
    return nn.Sequential(nn.Linear(in_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, out_dim))


def _at_least_float32(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _init_orthogonal(free: torch.Tensor) -> None:
    """Fill with orthonormal columns; factorisations know no half precision, so it is made in float32."""
    if not getattr(free, "_is_hf_initialized", False):
        init.copy_(free, nn.init.orthogonal_(torch.empty(free.shape, dtype=torch.float32, device=free.device)))


def _signed_qr(free: torch.Tensor) -> torch.Tensor:
    """Orthonormal columns from any full-rank (n, m), n >= m: Q of its QR, signs chosen so that Q = free if it is one.

    Always orthonormal to rounding, whatever an optimiser, weight decay or a bfloat16 checkpoint did to `free`.
    """
    wide = _at_least_float32(free)
    q, r = torch.linalg.qr(wide)
    return q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0).to(q.dtype)


class LinearAdapter(Adapter):
    """f(x) = W x + b; inverse by the pseudo-inverse of W."""

    def __init__(self, in_dim: int, out_dim: int, decoder: nn.Module | None = None):
        super().__init__(in_dim, out_dim, decoder)
        self.map = nn.Linear(in_dim, out_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        """x = W^+ (z - b); the decoder instead where the map loses dimensions and there is one."""
        if self.invertibility == "learned":
            return self.decoder(z)
        # float64 throughout: an ill-conditioned W magnifies every rounding on the way back
        weight = torch.linalg.pinv(self.map.weight.double())
        return nn.functional.linear(z.double() - self.map.bias.double(), weight).to(z.dtype)

    @torch.no_grad()
    def load_affine(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._check_affine(weight, bias)
        self.map.weight.copy_(weight)
        self.map.bias.copy_(bias)


class MLPAdapter(Adapter):
    """f(x) = W2 gelu(W1 x + b1) + b2; the inverse is learned, by the decoder."""

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int, decoder: nn.Module | None = None):
        super().__init__(in_dim, out_dim, decoder)
        self.map = mlp(in_dim, hidden_dim, out_dim)

    @property
    def invertibility(self) -> str:
        return "learned" if self.decoder is not None else "none"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.map(x)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        if self.decoder is None:
            raise ValueError("An `mlp` adapter has no inverse without a decoder; set `reconstruction=True`.")
        return self.decoder(z)


class OrthogonalAdapter(Adapter):
    """f(x) = Q x + b with orthonormal columns (going up) or rows (going down): distances kept, or projected.

    Going up, Q^T is an exact left inverse. Going down, Q^T z is the point of the kept subspace nearest to x: an
    orthogonal projection. Whatever is written into `free` (a fit in closed form, say), its columns are made
    orthonormal by a QR factorisation, and orthonormal ones are taken as they are.

    Example:
        >>> adapter = OrthogonalAdapter(3, 4)
        >>> _ = torch.nn.init.normal_(adapter.free), torch.nn.init.zeros_(adapter.bias)
        >>> x = torch.randn(5, 3)
        >>> adapter.invertibility, torch.allclose(adapter.inverse(adapter(x)), x, atol=1e-5)
        ('left-inverse', True)
    """

    def __init__(self, in_dim: int, out_dim: int, decoder: nn.Module | None = None):
        super().__init__(in_dim, out_dim, decoder)
        self.free = nn.Parameter(torch.empty(max(in_dim, out_dim), min(in_dim, out_dim)))
        self.bias = nn.Parameter(torch.empty(out_dim))

    @property
    def weight(self) -> torch.Tensor:
        """Q, (out_dim, in_dim), in float32 or float64."""
        q = _signed_qr(self.free)
        return q if self.out_dim >= self.in_dim else q.T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype), self.bias)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        if self.invertibility == "learned":
            return self.decoder(z)
        return nn.functional.linear(z - self.bias, self.weight.to(z.dtype).T)

    def init_weights(self, std: float) -> None:
        _init_orthogonal(self.free)
        init.zeros_(self.bias)

    @torch.no_grad()
    def load_affine(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._check_affine(weight, bias)
        free = (weight if self.out_dim >= self.in_dim else weight.T).double()
        error = (free.T @ free - torch.eye(free.shape[1], dtype=free.dtype, device=free.device)).abs().max().item()
        if error > 1e-3:
            raise ValueError(
                f"The fit's map is not orthogonal (largest deviation of W^T W from the identity: {error:.2g}); "
                '`adapter_type="linear"` takes any affine map.'
            )
        self.free.copy_(free)
        self.bias.copy_(bias)


class MongeAdapter(Adapter):
    """f(x) = P D P^T x + b with P orthogonal and D > 0: the Monge map between Gaussians in one frame.

    Symmetric and positive definite, so it scales along axes but never rotates (Peyré and Cuturi 2019, remark 2.31).
    """

    def __init__(self, in_dim: int, out_dim: int, decoder: nn.Module | None = None):
        if in_dim != out_dim:
            raise ValueError(f"A `monge` adapter keeps the width: got {in_dim} features and shared_dim {out_dim}.")
        super().__init__(in_dim, out_dim, decoder)
        self.free = nn.Parameter(torch.empty(in_dim, in_dim))
        self.log_scale = nn.Parameter(torch.empty(in_dim))
        self.bias = nn.Parameter(torch.empty(in_dim))

    def _map(self, x: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
        basis = _signed_qr(self.free).to(x.dtype)
        return (x @ basis * log_scale.exp()) @ basis.T

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._map(x, self.log_scale) + self.bias

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return self._map(z - self.bias, -self.log_scale)

    def init_weights(self, std: float) -> None:
        _init_orthogonal(self.free)
        init.zeros_(self.log_scale)
        init.zeros_(self.bias)

    @torch.no_grad()
    def load_affine(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self._check_affine(weight, bias)
        wide = weight.double()
        asymmetry = (wide - wide.T).abs().max().item()
        scale, basis = torch.linalg.eigh((wide + wide.T) / 2)
        if asymmetry > 1e-3 * wide.abs().max() or scale.min() <= 0:
            raise ValueError(
                f"The fit's map is not symmetric positive definite (asymmetry {asymmetry:.2g}, smallest eigenvalue "
                f'{scale.min().item():.2g}); `adapter_type="linear"` takes any affine map.'
            )
        self.free.copy_(basis)
        self.log_scale.copy_(scale.log())
        self.bias.copy_(bias)


class CouplingAdapter(Adapter):
    """A flow of affine couplings: one half of the features scales and shifts the other, then they change places.

    y2 = x2 * exp(s(x1)) + t(x1), s in [-1, 1] by tanh. Exactly invertible in closed form (Dinh et al. 2017, eq. 7-8).
    Only rounding stands between x and its return; steep networks magnify it, and t is not bounded as s is.
    """

    def __init__(self, in_dim: int, out_dim: int, hidden_dim: int, decoder: nn.Module | None = None, steps: int = 4):
        if in_dim != out_dim or in_dim % 2:
            raise ValueError(
                f"A `coupling` adapter keeps an even width: got {in_dim} features and shared_dim {out_dim}."
            )
        super().__init__(in_dim, out_dim, decoder)
        half = in_dim // 2
        self.steps = nn.ModuleList(mlp(half, hidden_dim, in_dim) for _ in range(steps))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        for step in self.steps:
            log_scale, shift = step(first).chunk(2, dim=-1)
            first, second = second * log_scale.tanh().exp() + shift, first
        return torch.cat([first, second], dim=-1)

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        first, second = z.chunk(2, dim=-1)
        for step in reversed(self.steps):
            log_scale, shift = step(second).chunk(2, dim=-1)
            first, second = second, (first - shift) * (-log_scale.tanh()).exp()
        return torch.cat([first, second], dim=-1)


def build_adapter(config, side: str) -> Adapter:
    """Make the adapter that `config` asks for on `side` (`"context"` or `"query"`)."""
    in_dim, out_dim = config.feature_dim(side), config.shared_dim
    hidden_dim = config.adapter_hidden_size or 2 * out_dim
    decoder = mlp(out_dim, hidden_dim, in_dim) if config.reconstruction else None
    if config.adapter_type == "mlp":
        return MLPAdapter(in_dim, out_dim, hidden_dim, decoder)
    if config.adapter_type == "coupling":
        return CouplingAdapter(in_dim, out_dim, hidden_dim, decoder)
    kinds = {"linear": LinearAdapter, "orthogonal": OrthogonalAdapter, "monge": MongeAdapter}
    return kinds[config.adapter_type](in_dim, out_dim, decoder)
