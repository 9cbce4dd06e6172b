"""Passing small Python objects between ranks, over a group that may wait for a day.

Detectron2's own groups time out after 30 minutes, which rank 0 can exceed while it selects or writes.
"""

import functools
import gc
import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm

from .compat import forget_local_group


@functools.lru_cache(maxsize=1)
def _patient_group():
    return dist.new_group(backend="gloo", timeout=timedelta(days=1))


def started_by_torchrun() -> bool:
    """Whether torchrun (or a launcher with its environment variables) has started this process already."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def join() -> None:
    """Join the processes that torchrun has started, as Detectron2's `launch` does for those that it starts itself."""
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(backend="NCCL" if on_gpu else "GLOO", init_method="env://")
    comm.create_local_process_group(local_size)
    comm.synchronize()


def leave() -> None:
    """End this process's part in all groups. Every rank calls it when its work is done.

    A group's threads that still run while Python shuts down can abort the process ("terminate called without an
    active exception"), which would turn a finished run into a failed one.
    """
    if dist.is_available() and dist.is_initialized():
        _patient_group.cache_clear()
        forget_local_group()  # a group's threads end when the last reference to it goes
        dist.destroy_process_group()
        gc.collect()


def broadcast(value: Any) -> Any:
    """The `value` of rank 0, on every rank. Collective."""
    if comm.get_world_size() == 1:
        return value
    holder = [value if comm.is_main_process() else None]
    dist.broadcast_object_list(holder, src=0, group=_patient_group())
    return holder[0]


def gather(value: Any) -> list[Any]:
    """The values of all ranks, in rank order, on every rank. Collective."""
    if comm.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * comm.get_world_size()
    dist.all_gather_object(values, value, group=_patient_group())
    return values


def on_main(function, *args, **kwargs) -> Any:
    """Run `function` on rank 0 only and give its result, or its exception, to every rank. Collective.

    Without this, an error on rank 0 leaves the others waiting for a message that never comes. On the others, the
    exception has `on_rank_0` False: it need not be told twice.
    """
    outcome: tuple[Any, BaseException | None] = (None, None)
    if comm.is_main_process():
        try:
            outcome = (function(*args, **kwargs), None)
        except BaseException as error:
            if comm.get_world_size() == 1:
                raise
            outcome = (None, error)
    value, error = broadcast(outcome)
    if error is not None:
        error.on_rank_0 = comm.is_main_process()
        raise error
    return value
