import pytest
import torch


def random_rotation(dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]


def hidden_rotation_clouds(rows, noise, seed=0, dims=(24, 24), latent=12):
    """Two views of one latent cloud, each in its own random frame, so that equal axes never help."""
    generator = torch.Generator().manual_seed(seed)
    # A skewed mixture: a Gaussian cloud looks the same from many sides and could not be matched unpaired.
    centres = 2 * torch.randn(8, latent, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 8, (rows,), generator=generator)
    points = centres[labels] + torch.randn(rows, latent, generator=generator, dtype=torch.float64)
    sides = []
    for side, dim in enumerate(dims):
        view = points @ random_rotation(dim, 100 + 10 * seed + side)[:latent]
        sides.append(view + noise * torch.randn(rows, dim, generator=generator, dtype=torch.float64))
    return sides[0], sides[1]


@pytest.fixture
def clouds():
    return hidden_rotation_clouds(300, noise=0.2)


@pytest.fixture
def wide_and_narrow():
    return hidden_rotation_clouds(300, noise=0.2, dims=(30, 18))


def many_clusters(rows, seed, dims):
    """Two views of a cloud whose 25 centres lie irregularly: its shape alone says which axes belong together."""
    generator = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(25, 6, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 25, (rows,), generator=generator)
    points = centres[labels] + 0.5 * torch.randn(rows, 6, generator=generator, dtype=torch.float64)
    sides = []
    for side, dim in enumerate(dims):
        view = points @ random_rotation(dim, 100 + 10 * seed + side)[:6]
        sides.append(view + 0.1 * torch.randn(rows, dim, generator=generator, dtype=torch.float64))
    return sides[0], sides[1]


@pytest.fixture
def clusters():
    return many_clusters(2000, 0, (24, 24))


@pytest.fixture
def noisy_clouds():
    return hidden_rotation_clouds(600, noise=0.6, dims=(40, 30), latent=16)
