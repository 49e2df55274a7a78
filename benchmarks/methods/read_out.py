"""An injective adapter of any expressiveness: some coordinates carry the alignment, small ones keep the rest."""

import torch
from torch import Tensor, nn

from otmerge_hf.model.adapters import Adapter, mlp


class ReadOutAdapter(Adapter):
    r"""A linear bijection, affine couplings, and a scale; a left inverse at any width from the encoder's on.

    $$ (a, b) = R x, \quad a \leftarrow a \, e^{\tanh s(b)} + t(b), \quad b \leftarrow b \, e^{\tanh s(a)} + t(a), \;
       \dots, \quad f(x) = (a, \epsilon b) $$

    With all of x in b and one coupling, a = t(x) is any `mlp` adapter, and b a copy of x.

    Args:
        in_dim: Width of the encoder.
        out_dim: D, at least `in_dim`.
        read: Width of a.
        lead: Rows of R x that start in a; the others start in b, filled up with zeros.
        scale: Epsilon; 1 gives everything the same weight in the cosine.
        couplings: How many; each is a network of two layers.
        hidden_dim: Of those networks.
        start: R (in_dim, in_dim); an orthogonal one that is drawn if None.
        bias: (lead,), added to R x; zeros if None.

    Source: couplings: Dinh et al. 2017, eq. 7 and 8; the zeros: Chen et al. 2020 (VFlow).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        read: int,
        lead: int,
        scale: float = 0.01,
        couplings: int = 1,
        hidden_dim: int = 256,
        start: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__(in_dim, out_dim)
        self.read, self.lead, self.scale = read, lead, scale
        self.square = nn.Linear(in_dim, in_dim)
        nn.init.orthogonal_(self.square.weight)
        nn.init.zeros_(self.square.bias)
        if start is not None:
            self.square.weight.data.copy_(start)
        if bias is not None:
            self.square.bias.data[:lead] = bias
        widths = [(read, out_dim - read), (out_dim - read, read)]  # of what changes, of what it is changed by
        networks = [
            mlp(by, hidden_dim, 2 * changed) for changed, by in (widths[step % 2] for step in range(couplings))
        ]
        if start is not None:  # begin as the linear map
            for parameter in (parameter for network in networks for parameter in network[2].parameters()):
                nn.init.zeros_(parameter)
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        pad = nn.functional.pad
        first, rest = self.square(x).split([self.lead, self.in_dim - self.lead], dim=-1)
        parts = [pad(first, (0, self.read - self.lead)), pad(rest, (0, self.out_dim - self.read - rest.shape[-1]))]
        for step, network in enumerate(self.networks):
            log_scale, shift = network(parts[1 - step % 2]).chunk(2, dim=-1)
            parts[step % 2] = parts[step % 2] * log_scale.tanh().exp() + shift
        return torch.cat([parts[0], self.scale * parts[1]], dim=-1)

    def inverse(self, z: Tensor) -> Tensor:
        """The exact inverse of what `forward` gives."""
        a, b = z.split([self.read, self.out_dim - self.read], dim=-1)
        parts = [a, b / self.scale]
        for step, network in reversed(list(enumerate(self.networks))):
            log_scale, shift = network(parts[1 - step % 2]).chunk(2, dim=-1)
            parts[step % 2] = (parts[step % 2] - shift) * (-log_scale.tanh()).exp()
        x = torch.cat([parts[0][..., : self.lead], parts[1][..., : self.in_dim - self.lead]], dim=-1).double()
        weight = torch.linalg.inv(self.square.weight.double())
        return nn.functional.linear(x - self.square.bias.double(), weight).to(z.dtype)
