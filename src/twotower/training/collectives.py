"""Data-parallel training on several processes: split batches, gathered candidates.

``torchrun --nproc-per-node 2 -m twotower train …`` starts the processes. Each makes the same batch,
which is a function of its position alone, and runs the model over a part of it. What all examples
are compared with, candidates and the positives of the batch, is embedded in parts too and gathered
with its gradients, so that loss and gradients are those of one process with the whole batch. Losses
are means over examples: each part weighs what its examples are of all.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from twotower.errors import TwoTowerError
from twotower.models.base import Batch, Embeddings

T = TypeVar("T")

_PATIENCE: Final = timedelta(hours=12)
"""How long a process waits for another, which may be tuning settings or validating; a process that
ends is noticed at once."""


class Part(NamedTuple):
    """A process's part of a batch."""

    batch: Batch
    share: float
    """Share of the batch's examples."""
    candidates: int
    """Shared candidates of the whole batch."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a training; a single one by default."""

    rank: int = 0
    size: int = 1
    """Which of how many this is."""

    @property
    def first(self) -> bool:
        """Whether this process does the work of only one, such as writing files."""
        return self.rank == 0

    def part(self, batch: Batch) -> Part:
        """The examples and candidates of one process.

        A process without examples of its own takes the first ones with a share of 0: all processes
        then have the same gradients to sum.
        """
        if self.size == 1:
            return Part(batch, 1.0, len(batch.shared))
        examples = len(batch.positives)
        whole = len(batch.positions) > 0  # all places of sequences are examples
        count = batch.lengths if whole else torch.ones(examples, dtype=torch.int64)
        ends = count.cumsum(0)
        cuts = torch.arange(self.size + 1) * examples // self.size
        own_cuts = cuts[self.rank : self.rank + 2]
        begin, end = torch.searchsorted(ends, own_cuts, right=True).tolist()
        rows = slice(begin, end) if end > begin else slice(0, 1)
        own = slice(int(ends[rows.start] - count[rows.start]), int(ends[rows.stop - 1]))
        share = 0.0
        if end > begin:
            share = (own.stop - own.start) / examples
            if len(batch.weights):  # the loss is their weighted mean
                share = float(batch.weights[own].sum() / batch.weights.sum())
        own_values: dict[str, Any] = {}
        for name in ("histories", "lengths", "gaps", "contexts"):
            own_values[name] = getattr(batch, name)[rows]
        for name in (
            "users", "positives", "log_q", "negatives", "features", "negative_log_q", "weights",
        ):  # fmt: skip
            own_values[name] = getattr(batch, name)[own]
        if whole:
            width = batch.histories.shape[1]
            own_values["positions"] = batch.positions[own] - rows.start * width
        per_rank = -(-len(batch.shared) // self.size)
        for name, padding in (("shared", -1), ("shared_log_q", 0.0)):
            values = getattr(batch, name)[self.rank * per_rank : (self.rank + 1) * per_rank]
            own_values[name] = nn.functional.pad(values, (0, per_rank - len(values)), value=padding)
        return Part(batch._replace(**own_values), share, len(batch.shared))

    def gathered(self, embeddings: Embeddings, part: Part) -> Embeddings:
        """The embeddings of a part, with the candidates of the whole batch.

        Positives of other examples become shared candidates; accidental hits are found by item
        id, so no label depends on the rank. Log-q is in units of the batch size.
        """
        if self.size == 1:
            return embeddings
        vectors: list[Tensor] = []
        ids: list[Tensor] = []
        log_q: list[Tensor] = []
        if embeddings.in_batch:
            own_ids = embeddings.positive_ids
            if not part.share:  # they are another process's
                own_ids = torch.full_like(own_ids, -1)
            vectors.append(self._gather_uneven(embeddings.positive))
            ids.append(self._gather_uneven(own_ids))
            log_q.append(self._gather_uneven(embeddings.log_q))
        if part.candidates:
            vectors.append(self.gather(embeddings.shared)[: part.candidates])
            ids.append(self.gather(embeddings.shared_ids)[: part.candidates])
            log_q.append(self.gather(embeddings.shared_log_q)[: part.candidates])
        if not vectors:
            return embeddings
        unit = -math.log(part.share or 1.0)
        return embeddings._replace(
            shared=torch.cat(vectors),
            shared_ids=torch.cat(ids),
            shared_log_q=torch.cat(log_q) + unit,
            log_q=embeddings.log_q + unit,
            negative_log_q=embeddings.negative_log_q + unit,
            in_batch=False,
        )

    def gather(self, values: Tensor) -> Tensor:
        """``(n, …)`` of each process to ``(size * n, …)`` in the order of ranks, with gradients."""
        gathered: Tensor = _Gather.apply(values, self)  # type: ignore[no-untyped-call]
        return gathered

    def _gather_uneven(self, values: Tensor) -> Tensor:
        counts = torch.tensor([len(values)], device=values.device)
        lengths = self.gather(counts).tolist()
        padding = [0, 0] * (values.dim() - 1) + [0, max(lengths) - len(values)]
        padded = self.gather(nn.functional.pad(values, padding))
        parts = torch.split(padded, max(lengths))
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    @torch.no_grad()
    def sum_gradients(self, module: nn.Module) -> None:
        """Sum the gradients over all processes, dense and sparse (row-wise) ones.

        Dense gradients are sent as one tensor: every collective takes milliseconds at any size.
        """
        if self.size == 1:
            return
        dense = []
        for parameter in module.parameters():
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                own = gradient.coalesce()
                rows, values = own.indices()[0], own.values()
                parameter.grad = torch.sparse_coo_tensor(
                    self._gather_uneven(rows)[None], self._gather_uneven(values), gradient.shape
                )
            else:
                dense.append(gradient)
        if not dense:
            return
        total = self.add_up(torch.cat([gradient.flatten() for gradient in dense]))
        sums = torch.split(total, [gradient.numel() for gradient in dense])
        torch._foreach_copy_(dense, [s.view_as(g) for s, g in zip(sums, dense, strict=True)])

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            with self._waiting():
                dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Block until all processes get here."""
        if self.size > 1:
            with self._waiting():
                dist.barrier()

    @torch.no_grad()
    def same_start(self, module: nn.Module) -> None:
        """Give all processes the parameters and buffers of the first."""
        if self.size > 1:
            with self._waiting():
                for value in (*module.parameters(), *module.buffers()):
                    dist.broadcast(value, 0)

    def of_first(self, make: Callable[[], T]) -> T:
        """Broadcast what the first process makes; an error there is raised in all."""
        if self.size == 1:
            return make()
        found: list[Any] = [None, None]
        if self.first:
            try:
                found[0] = make()
            except TwoTowerError as error:
                found[1] = error
        with self._waiting():
            dist.broadcast_object_list(found, 0)
        if found[1] is not None:
            raise found[1]
        value: T = found[0]
        return value

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, dist.DistError) as error:
            raise TwoTowerError(
                f"rank {self.rank} of {self.size} lost another rank, which was killed or failed "
                f"({' '.join(str(error).split())[:120]}); run the same command to go on from the "
                "last checkpoint"
            ) from error


class _Gather(torch.autograd.Function):
    """`Ranks.gather`; its backward pass sums the gradients from all processes' losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.count = ranks, len(values)
        parts = [torch.empty_like(values) for _ in range(ranks.size)]
        with ranks._waiting():
            dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total = ctx.ranks.add_up(grads[0].contiguous())
        begin = ctx.ranks.rank * ctx.count
        return total[begin : begin + ctx.count], None


def ranks() -> Ranks:
    """The processes that torchrun started, joined at the first call; one where it did not."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "MASTER_ADDR" not in os.environ:
        return Ranks()
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
    return Ranks(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Leave the process group, at the end of a command."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
