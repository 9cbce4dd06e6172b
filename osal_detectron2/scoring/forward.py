"""Batched reading of tiles for inference, in batches of one padded size.

Detectron2 pads a batch to its largest tile, so a tile's features would depend on its companions. Batches of tiles
with the same padded size make the result independent of batch size and of sharding, up to float noise.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from torch.utils.data import DataLoader, Dataset


class _Mapped(Dataset):
    def __init__(self, records: Sequence[dict], mapper: Callable[[dict], dict]) -> None:
        self.records, self.mapper = records, mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        return self.mapper(self.records[index])


def _only(batch: list) -> dict:
    return batch[0]


def inference_batches(
    records: Sequence[dict],
    mapper: Callable[[dict], dict],
    *,
    batch_size: int,
    size_divisibility: int,
    num_workers: int = 0,
    title: str = "inference",
    log_every: float = 10.0,
) -> Iterator[list[dict]]:
    """Lists of at most `batch_size` inputs with equal padded size; every record exactly once.

    Progress with an ETA is logged every `log_every` seconds and once at the end, under `title`.
    """
    logger = logging.getLogger("osal_detectron2.scoring")
    waiting: dict[tuple[int, int], list[dict]] = {}
    divisor = max(size_divisibility, 1)
    begun = last = time.perf_counter()
    done = 0
    loader = DataLoader(_Mapped(records, mapper), batch_size=1, num_workers=num_workers, collate_fn=_only)
    for item in loader:
        height, width = item["image"].shape[-2:]
        bucket = waiting.setdefault((-(-height // divisor), -(-width // divisor)), [])
        bucket.append(item)
        if len(bucket) == batch_size:
            yield bucket.copy()
            done += len(bucket)
            bucket.clear()
            now = time.perf_counter()
            if now - last > log_every:
                last = now
                left = (len(records) - done) * (now - begun) / done
                logger.info("%s: %d/%d tiles, ETA %s", title, done, len(records), clock(left))
    for bucket in waiting.values():
        if bucket:
            yield bucket.copy()
    if records:
        seconds = time.perf_counter() - begun
        rate = len(records) / max(seconds, 1e-9)
        logger.info("%s: %d tiles in %s (%.1f tiles/s)", title, len(records), clock(seconds), rate)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
