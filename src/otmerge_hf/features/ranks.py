"""The processes of one launch that compute one store together: who they are, and what each tells the others."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState


logger = logging.getLogger(__name__)

T = TypeVar("T")
_MEETING = timedelta(minutes=30)  # torch's own patience: a rank that does not come by then never will
_PATIENCE = timedelta(days=2)  # a rank that is done waits for one on a slower machine


@dataclass(frozen=True)
class Ranks:
    """This process's rank, of how many.

    Attributes:
        number: Rank, 0 to `count` - 1.
        count: Processes.
        group: Their gloo group; None for a single process.
    """

    number: int = 0
    count: int = 1
    group: Any = None

    def gather(self, work: Callable[[], T]) -> list[T]:
        """What `work()` gave on every rank, in order of rank; all ranks have to call it.

        Raises:
            Exception: On the rank where `work` failed, its own error.
            RuntimeError: On the others, naming the rank and its error; also if a process ended meanwhile.
        """
        if self.group is None:
            return [work()]
        failure, mine = None, None
        try:
            mine = work()
        except Exception as error:
            logger.error(
                "rank %d of %d failed; the others end with their own shares: %s", self.number, self.count, error
            )
            failure = error
        said: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(said, (mine, failure and f"{type(failure).__name__}: {failure}"), self.group)
        except RuntimeError as error:
            if failure is None:
                problem = f"rank {self.number} lost another rank, which ended before its features were finished"
                raise RuntimeError(f"{problem}; run again to go on from what is kept") from error
        if failure is not None:
            raise failure
        for rank, (_, problem) in enumerate(said):
            if problem is not None:
                raise RuntimeError(f"rank {rank} failed: {problem}")
        return [result for result, _ in said]


def join_ranks(share: bool) -> Ranks:
    """All ranks of an `accelerate launch` or `torchrun`; this process alone if there is no other, or not `share`.

    Raises:
        RuntimeError: If a rank does not come within half an hour.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ
    if share and launched and not dist.is_initialized():
        PartialState(cpu=not torch.cuda.is_available())  # a script may come here before its TrainingArguments
    if not (share and dist.is_initialized() and dist.get_world_size() > 1):
        return Ranks()
    meeting, patient = _groups(dist.group.WORLD)
    dist.monitored_barrier(meeting, timeout=_MEETING)
    return Ranks(dist.get_rank(), dist.get_world_size(), patient)


@lru_cache(maxsize=1)
def _groups(world: Any) -> tuple[Any, Any]:
    """Two groups of all ranks, of gloo also between GPUs: words are exchanged, no tensors.

    Made once: one that is closed as soon as a rank is done with it breaks those that still connect to it.
    """
    meeting = dist.new_group(backend="gloo", timeout=_MEETING)
    return meeting, dist.new_group(backend="gloo", timeout=_PATIENCE)
