"""Random streams derived from what they are for, so that a resumed run draws what the unbroken one drew.

`derive_seed(seed, "mapper", iteration)` names a stream by its purpose; no generator is kept in memory.
"""

import hashlib
import math

import numpy as np


def _canonical(part: object) -> str:
    """The text of one part, the same on every machine, Python and numpy; refuses what has no such text."""
    if isinstance(part, np.generic):
        part = part.item()  # numpy 1 and 2 print np.int64(3) differently
    if isinstance(part, (tuple, list)):
        return "(" + ",".join(_canonical(p) for p in part) + ")"
    if (
        part is None
        or isinstance(part, (bool, int, str))
        or (isinstance(part, float) and math.isfinite(part))
    ):
        return repr(part)
    raise TypeError(f"a seed is derived from str, int, float, bool, None and tuples of them, not {part!r}")


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from `parts`: the head of the SHA-256 of their canonical text.

    Raises TypeError for a part whose text would differ between machines (an object, NaN).
    """
    text = "\x1f".join(_canonical(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def tie_hash(seed: int, round_index: int, key: str) -> int:
    """The last sort key of a ranking: settles equal scores without favouring any order of the pool.

    docs/reproducibility.md 1.5: rank by (score, secondary keys, hash(seed, round, image key)).
    """
    return derive_seed("tie", seed, round_index, key)


def generator(*parts: object) -> np.random.Generator:
    """A numpy generator (PCG64) of the stream that `parts` name."""
    return np.random.Generator(np.random.PCG64(derive_seed(*parts)))
