"""Batches of one padded size: every tile once, and never a companion of another size."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from osal_detectron2.scoring.forward import inference_batches

sizes = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=0, max_size=30)


@settings(max_examples=50, deadline=None)
@given(sizes=sizes, batch_size=st.integers(1, 7), divisor=st.sampled_from([0, 1, 4]))
def test_every_tile_once_in_batches_of_one_padded_size(sizes, batch_size, divisor):
    records = [{"key": i, "size": size} for i, size in enumerate(sizes)]

    def mapper(record):
        return {"key": record["key"], "image": torch.zeros(3, *record["size"])}

    batches = list(inference_batches(records, mapper, batch_size=batch_size, size_divisibility=divisor))
    assert sorted(item["key"] for batch in batches for item in batch) == list(range(len(sizes)))
    unit = max(divisor, 1)
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len({tuple(-(-n // unit) for n in item["image"].shape[1:]) for item in batch}) == 1
