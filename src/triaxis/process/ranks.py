"""Several processes that train one network together, as torchrun starts them: who they are, and how they agree.

Each process is a *rank*. Rank 0 leads: it alone decides and writes, and tells the others what to do next; they follow, each on
its own part of the images. Everything that passes between them goes through `Ranks`:

    send, receive       what the leader tells the others
    gather, share       what each found, brought to the leader; what the leader has, brought to all
    agree               a place where all meet, and learn whether one of them has failed
    add                 sums of tensors over all ranks, such as gradients

A rank that fails on the way says so at the next meeting: all raise its error there, and may go on to the next piece of work. One
that is lost altogether, killed for example, ends the others at once. Messages are tensors, numbers, text, lists and mappings;
nothing else is read from the network.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from triaxis import errors
from triaxis.errors import LostRankError, TriaxisError
from triaxis.process.interrupt import Stop, postponed
from triaxis.process.messages import error_of, pack, plain_error, unpack

if TYPE_CHECKING:
    from torch import Tensor

Message = TypeVar("Message")

PATIENCE = timedelta(days=30)
"""A rank waits for the next piece of work as long as it takes: that one is lost is seen by its connections, not by a clock."""

LOOK_S = 0.5
"""Seconds between two looks of a rank at whether another has failed."""

GRACE_S = 5.0
"""Seconds in which a rank that hears of another's failure may end by itself, before it is ended."""

BUCKET_NUMBERS = 8_000_000
"""Gradients are summed in pieces of about so many numbers, as one message each."""

HEADER = 8


def num_launched() -> int:
    """Return how many processes torchrun has started for this program; 1 where it has not."""
    is_launched = all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
    return int(os.environ["WORLD_SIZE"]) if is_launched else 1


def num_launched_here() -> int:
    """Return how many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if num_launched() > 1 else 1


def follows() -> bool:
    """Whether this process is one that follows another's decisions."""
    return num_launched() > 1 and int(os.environ["RANK"]) > 0


@dataclass
class Ranks:
    """The ranks of one run, seen from one of them.

    `rank` in [0, size) is its own number, `local_rank` that on its machine. `is_busy` is set while all work on one piece of work,
    so that nobody waits to be told of the next, `is_over` when the leader has told of the end.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: Any = None
    store: Any = None
    is_busy: bool = False
    is_over: bool = False
    known: BaseException | None = field(default=None, repr=False)

    @property
    def leads(self) -> bool:
        """Whether this rank decides and writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def send(self, message: Any) -> None:
        """Tell the others something; they `receive` it."""
        self._broadcast(pack(message), 0)

    def receive(self) -> Any:
        """Wait for what the leader sends."""
        return unpack(self._broadcast(None, 0))

    def share(self, message: Message) -> Message:
        """Return the leader's message on every rank."""
        if self.is_alone:
            return message
        self.agree("share")
        if self.leads:
            self.send(message)
            return message
        return self.receive()

    def gather(self, message: Message) -> list[Message]:
        """Return everybody's message, by rank, on the leader; on the others their own alone."""
        if self.is_alone:
            return [message]
        import torch
        import torch.distributed as dist

        packed = pack(message)
        lengths = [int(found[0]) for found in self.agree("gather", len(packed))]
        padded = torch.zeros(max(lengths), dtype=torch.uint8)
        padded[: len(packed)] = packed
        found = [torch.empty_like(padded) for _ in lengths] if self.leads else None
        with self._told():
            dist.gather(padded, found, dst=0, group=self.group)
        if found is None:
            return [message]
        return [unpack(part[:length]) for part, length in zip(found, lengths, strict=True)]

    def agree(self, place: str, *numbers: int, error: Exception | None = None) -> list[tuple[int, ...]]:
        """Meet the others, and return everybody's numbers, by rank.

        Args:
            place: Says where all should be.
            numbers: At most six whole numbers.
            error: What this rank has failed with.

        Raises:
            TriaxisError: A rank has failed; the same one's error on all.
        """
        if self.is_alone:
            if error is not None:
                raise error
            return [numbers]
        import torch
        import torch.distributed as dist

        header = torch.zeros(HEADER, dtype=torch.int64)
        header[0], header[1] = error is not None, zlib.crc32(place.encode())
        header[2 : 2 + len(numbers)] = torch.tensor(numbers, dtype=torch.int64)
        found = [torch.empty_like(header) for _ in range(self.size)]
        with self._told():
            dist.all_gather(found, header, group=self.group)
        failed = [rank for rank, one in enumerate(found) if one[0]]
        if failed:
            self.is_busy = False
            self._fail_together(failed[0], error)
        if len({int(one[1]) for one in found}) > 1:
            raise RuntimeError(f"ranks must meet at one place, but this one is at {place} and others are not")
        return [tuple(one[2 : 2 + len(numbers)].tolist()) for one in found]

    def any(self, place: str, is_so: bool) -> bool:
        """Return whether something is so on any rank."""
        return any(found[0] for found in self.agree(place, int(is_so)))

    @contextmanager
    def together(self, place: str) -> Iterator[None]:
        """Do a piece of work on all ranks: an error of one of them is raised on all, here or where they meet next.

        Raises:
            TriaxisError: A rank has failed.
        """
        if self.is_alone or self.is_busy:
            yield
            return
        # No signal ends this rank alone while others wait for it.
        with postponed():
            self.is_busy = True
            try:
                yield
                self.agree(place)
            except Exception as error:
                if not self.knows(error):
                    self.agree(place, error=error)
                self.is_busy = False
                raise
            except Stop:
                self.is_busy = False
                raise
            self.is_busy = False

    def knows(self, error: BaseException) -> bool:
        """Whether all ranks know of an error, so that nobody waits for this one."""
        return error is self.known or isinstance(error, LostRankError)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Put the sum over all ranks in place of each tensor; types and shapes are the same on all of them."""
        if self.is_alone:
            return
        import torch
        import torch.distributed as dist

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.detach().flatten() for tensor in bucket])
            with self._told():
                dist.all_reduce(flat)
            for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.detach().copy_(total.view_as(tensor))

    def _broadcast(self, packed: Tensor | None, source: int) -> Tensor:
        import torch
        import torch.distributed as dist

        length = torch.tensor([0 if packed is None else len(packed)])
        with self._told():
            dist.broadcast(length, src=source, group=self.group)
            packed = torch.empty(int(length), dtype=torch.uint8) if packed is None else packed
            dist.broadcast(packed, src=source, group=self.group)
        return packed

    def _fail_together(self, rank: int, error: Exception | None) -> None:
        """Raise one rank's error on all."""
        is_own = rank == self.rank and error is not None
        said = unpack(self._broadcast(pack(plain_error(error)) if is_own and error else None, rank))
        self.known = error if is_own else error_of(said, f"rank {rank} of {self.size}")
        assert self.known is not None
        raise self.known

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what torch raises when another rank is lost into that rank's own error, if it said one."""
        try:
            yield
        except RuntimeError as error:
            raise self._lost() from error

    def _lost(self) -> LostRankError:
        deadline = time.monotonic() + 2 * LOOK_S
        said = _look(self.store)
        while said is None and time.monotonic() < deadline:
            time.sleep(LOOK_S / 5)
            said = _look(self.store)
        return LostRankError(_lost_sentence(said))

    def end(self, message: Any) -> None:
        """Tell the others that there is no more to do."""
        if self.leads and not self.is_alone and not self.is_over:
            self.is_over = True
            self.send({"op": "end", **message})

    def leave(self, error: BaseException) -> None:
        """Tell the others that this rank ends with an error."""
        if self.is_alone or self.is_over or isinstance(error, LostRankError):
            return
        if self.leads and not self.is_busy:
            atexit.register(_set, self.store, "left", "1")
            with suppress(LostRankError):
                self.end({"error": plain_error(error)})
        elif not self.knows(error):
            _set(self.store, "failed", json.dumps({"rank": self.rank, **plain_error(error)}))


ALONE = Ranks()

_joined: list[Ranks] = []


def current() -> Ranks:
    """Return the ranks that this process is one of; `ALONE` where it is by itself."""
    return _joined[-1] if _joined else ALONE


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the other ranks of the program that torchrun started; within another such context do nothing.

    Raises:
        LostRankError: The others do not come.
    """
    if _joined or num_launched() == 1:
        yield current()
        return
    ranks = _join()
    _joined.append(ranks)
    try:
        yield ranks
    except BaseException as error:
        ranks.leave(error)
        raise
    finally:
        _joined.pop()
        ranks.group = None


_times_joined = 0


def _join() -> Ranks:
    import torch
    import torch.distributed as dist

    global _times_joined
    rank, size, here = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    try:
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(minutes=30))
        # Told of by the hour, and by processors: waiting on a GPU would disturb what the leader measures there.
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        store = dist.PrefixStore(f"triaxis/{_times_joined}", dist.distributed_c10d._get_default_store())
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise LostRankError(f"All {size} processes that torchrun starts must find each other, but rank {rank} got: {reason}.") from error
    _times_joined += 1
    threading.Thread(target=_watch, args=(store.clone() if hasattr(store, "clone") else store, rank), daemon=True).start()
    return Ranks(rank, size, here, group, store)


def _watch(store: Any, rank: int) -> None:
    """End this process soon after another has failed, wherever it is: it may wait for that one in a place that nothing interrupts."""
    while True:
        time.sleep(LOOK_S)
        said = _look(store)
        if said is None or said["rank"] == rank:
            continue
        time.sleep(GRACE_S)
        if rank == 0:
            sys.stderr.write(f"error: {_lost_sentence(said)}\n")
            sys.stderr.flush()
        os._exit(_exit_code(said))


def _look(store: Any) -> dict[str, Any] | None:
    """Return what a rank that failed has said, or None."""
    try:
        return json.loads(store.get("failed")) if store.check(["failed"]) else None
    except RuntimeError:  # the store ends with the process that keeps it
        return None


def _set(store: Any, key: str, text: str) -> None:
    try:
        store.set(key, text)
    except RuntimeError:  # likewise
        return


def wait_for_leader(ranks: Ranks) -> None:
    """Wait a moment until the leader has gone: it says why, and torchrun ends the others as soon as one of them has ended."""
    try:
        ranks.store.wait(["left"], timedelta(seconds=GRACE_S))
    except RuntimeError:
        return


def _exit_code(plain: dict[str, Any]) -> int:
    kind = getattr(errors, plain["kind"], None)
    return kind.exit_code if isinstance(kind, type) and issubclass(kind, TriaxisError) else LostRankError.exit_code


def _lost_sentence(said: dict[str, Any] | None) -> str:
    if said is None:
        return (
            "Every process that torchrun started must stay until the end, but one is gone without a word, killed perhaps for its memory: "
            "run the same command again to go on from the last saved state."
        )
    return f"Rank {said['rank']} ended the run: {said['kind']}: {said['text']}"


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        is_other = bucket and (tensor.dtype, tensor.device) != (bucket[0].dtype, bucket[0].device)
        if is_other or sum(part.numel() for part in bucket) + tensor.numel() > BUCKET_NUMBERS:
            if bucket:
                yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
