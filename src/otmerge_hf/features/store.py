"""A folder of frozen-encoder features -> padded batches of any rows, and their statistics."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from .keys import digest
from .reading import ShardReader, open_files
from .remembered import remember
from .shards import Shard, Verify, read_index, shard_problem
from .statistics import feature_statistics


# Read as integers, because NumPy knows no bfloat16; only copied, never computed with.
_BITS = {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}
_BLOCK = 2048  # tokens held in float64 at a time


class FeatureStore:
    """Features of N inputs in a folder on disk, read by row number when they are asked for.

    Made by [`compute_features`]; opening one by hand checks it in the same way, as `verify` says there. A store may be
    sent to `DataLoader` workers: it travels as its path. The files must stay where they are while it is in use.

    Attributes:
        key: What they depend on, a dict.
        feature_dim: D.
        dtype: Type of the features.
        reused: Whether the call of [`compute_features`] that returned the store computed nothing.

    Raises:
        FileNotFoundError: If the folder has no index (the run did not finish).
        ValueError: If the index or a shard is damaged; the message names it.
    """

    def __init__(self, folder: str | Path, verify: Verify = "full") -> None:
        check_verify(verify)
        self.folder = Path(folder)
        index = read_index(self.folder)
        for shard in index["shards"]:
            if problem := shard_problem(self.folder, shard, verify):
                raise ValueError(f"{self.folder / shard.file} {problem}; call compute_features again to rebuild it")
        self.key: dict[str, Any] = index["key"]
        self.feature_dim: int = index["feature_dim"]
        self.dtype: torch.dtype = getattr(torch, index["dtype"])
        self.reused = False
        self._shards: list[Shard] = index["shards"]
        self._open()

    def __len__(self) -> int:
        return self._shards[-1].last

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}, rows={len(self)}, feature_dim={self.feature_dim})"

    @property
    def shards_digest(self) -> str:
        """SHA-256 over the shards' own: the same exactly when the features are the same bytes."""
        return digest([shard.sha256 for shard in self._shards])

    def batch(self, ids: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B rows, repeats allowed, padded with zeros to the S tokens of the longest.

        Returns:
            Features (B, S, D) in the store's dtype, a copy; mask (B, S) of int64, 1 where a token is real.

        Raises:
            IndexError: If a row number is not in [0, N).
            ValueError: If `ids` is empty, or a file has become shorter since the store was opened.
            OSError: If a file has gone since.

        Example:
            >>> import tempfile
            >>> from otmerge_hf.features import compute_features
            >>> encode = lambda texts: (torch.ones(len(texts), 3, 8), None)
            >>> store = compute_features(encode, ["a", "b"], cache_dir=tempfile.mkdtemp(), key={})
            >>> [tuple(tensor.shape) for tensor in store.batch([1, 0, 1])]
            [(3, 3, 8), (3, 3)]
        """
        rows = ids.tolist() if isinstance(ids, torch.Tensor) else list(ids)
        self.check_rows(rows)
        places = [self._place(row) for row in rows]
        lengths = np.array([reader.length(place) for reader, place in places])
        longest = int(lengths.max())
        mask = np.arange(longest) < lengths[:, None]  # (B, S)
        # memory of torch, which begins at a multiple of 64 bytes: products differ in the last bit by where it begins
        new = torch.empty if mask.all() else torch.zeros
        features = new((len(rows), longest, self.feature_dim), dtype=self.dtype)  # (B, S, D)
        for target, length, (reader, place) in zip(_as_numpy(features), lengths, places, strict=True):
            reader.read(place, target[:length])
        return features, torch.from_numpy(mask.astype(np.int64))

    def statistics(self, ids: Sequence[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Mean and standard deviation of every feature over all real tokens, by [`feature_statistics`].

        $$ \mu = \frac1T \sum_t x_t, \qquad \sigma^2 = \frac1T \sum_t (x_t - \mu)^2 $$

        Args:
            ids: Rows to count, each once; all by default, whose result is kept in the folder.

        Returns:
            (D,) and (D,), float32, in feature units. The deviation is zero where a feature never changes: whoever
            divides by it must guard against that.

        Raises:
            IndexError: If a row number is not in [0, N).
            ValueError: If `ids` is empty.
        """
        if ids is not None:
            return feature_statistics(self._real_tokens(sorted(set(ids))))

        def compute() -> dict[str, torch.Tensor]:
            mean, std = feature_statistics(self._real_tokens(range(len(self))))
            return {"mean": mean, "std": std}

        known = remember(self.folder / "statistics.safetensors", self.shards_digest, compute)
        return known["mean"], known["std"]

    def _real_tokens(self, ids: Sequence[int]) -> Iterator[torch.Tensor]:
        """Tokens (T, D) of the rows, some `_BLOCK` at a time, without padding."""
        self.check_rows(ids)
        rows, count = [], 0
        for i, (reader, place) in enumerate(map(self._place, ids), 1):
            rows.append(np.empty((reader.length(place), self.feature_dim), dtype=_BITS[self.dtype.itemsize]))
            reader.read(place, rows[-1])
            count += len(rows[-1])
            if count >= _BLOCK or i == len(ids):
                yield torch.from_numpy(np.concatenate(rows)).view(self.dtype)
                rows, count = [], 0

    def check_rows(self, rows: Sequence[int]) -> None:
        """Refuse no row, and what is no number, with a ValueError; a row number not in [0, N) with an IndexError."""
        if not rows:
            raise ValueError("ids must name at least one row; got none")
        for kind in {type(row) for row in rows} - {int}:
            if not issubclass(kind, np.integer | torch.Tensor) or any(np.ndim(r) for r in rows if type(r) is kind):
                raise ValueError(f"ids must be row numbers, each a whole number; got a {kind.__name__}")
        if min(rows) < 0 or max(rows) >= len(self):
            bad = next(row for row in rows if not 0 <= row < len(self))
            raise IndexError(f"row {bad} is out of range: the store has rows 0 to {len(self) - 1}")

    def _open(self) -> None:
        opener = open_files()
        self._readers = [ShardReader(self.folder / shard.file, opener) for shard in self._shards]
        self._first = [shard.first for shard in self._shards]

    def _place(self, row: int) -> tuple[ShardReader, int]:
        shard = bisect_right(self._first, row) - 1
        return self._readers[shard], row - self._first[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_readers"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


def _as_numpy(features: torch.Tensor) -> np.ndarray:
    """The same memory as integers, for NumPy, which knows no bfloat16."""
    return features.view(getattr(torch, np.dtype(_BITS[features.element_size()]).name)).numpy()


def check_verify(verify: str) -> None:
    """Refuse an unknown way of checking shards with a ValueError."""
    if verify not in get_args(Verify):
        raise ValueError(f"verify must be one of {', '.join(get_args(Verify))}; got {verify!r}")
