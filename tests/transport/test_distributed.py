"""Two gloo processes against one: the same global loss and, after DDP's mean, the same weight gradient."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from otmerge_hf.transport import gather_clouds, sinkhorn_divergence


SIZES = (5, 8)  # unequal shards


def problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(sum(SIZES), 3, generator=generator)
    y = torch.randn(sum(SIZES), 4, generator=generator)
    mask = torch.ones(sum(SIZES), dtype=torch.bool)
    mask[2] = mask[-1] = False
    weight = torch.randn(3, 4, generator=generator)
    return x, y, mask, weight


def global_loss(x, y, mask):
    return sinkhorn_divergence(x, y, x_mask=mask, epsilon=0.1, tol=1e-5).value


def worker(rank, port, results):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        x, y, mask, weight = problem()
        shard = slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))
        weight.requires_grad_()
        points, kept = gather_clouds(x[shard] @ weight, mask[shard])
        targets, _ = gather_clouds(y[shard])
        loss = global_loss(points, targets, kept)
        loss.backward()
        dist.all_reduce(weight.grad)  # what DistributedDataParallel does: mean over processes
        with pytest.raises(ValueError, match="must agree between processes"):
            gather_clouds(torch.zeros(2, 3 + rank))
        results[rank] = (loss.item(), (weight.grad / 2).tolist(), kept.tolist())
    finally:
        dist.destroy_process_group()


@pytest.mark.distributed
def test_two_processes_give_the_gradient_of_one():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(worker, args=(port, results), nprocs=2)
        seen = dict(results)

    x, y, mask, weight = problem()
    weight.requires_grad_()
    loss = global_loss(x @ weight, y, mask)
    loss.backward()
    for rank in (0, 1):
        value, gradient, kept = seen[rank]
        assert value == pytest.approx(loss.item(), rel=1e-6)
        assert kept == mask.tolist()
        error = torch.linalg.vector_norm(torch.tensor(gradient) - weight.grad)
        assert error <= 1e-5 * torch.linalg.vector_norm(weight.grad)


def test_one_process_gets_its_cloud_back():
    cloud = torch.randn(3, 2, requires_grad=True)
    points, mask = gather_clouds(cloud, torch.tensor([1, 0, 1]))
    assert points is cloud
    assert mask.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("cloud", "mask", "message"),
    [
        (torch.zeros(3), None, r"cloud must be \(N, D\)"),
        (torch.zeros(3, 2), torch.ones(4), "mask must have shape"),
        (torch.zeros(3, 2, dtype=torch.long), None, "cloud must be floating point"),
    ],
)
def test_bad_input_is_named(cloud, mask, message):
    with pytest.raises(ValueError, match=message):
        gather_clouds(cloud, mask)
