import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osal_detectron2.core.seeding import derive_seed, generator, tie_hash


def test_fixed_values_on_every_machine():
    """sha256(b"0\\x1f'pool'\\x1f3"), first eight bytes without the last bit: computed with sha256sum."""
    assert derive_seed(0, "pool", 3) == 5090844838040370958
    assert tie_hash(7, 2, "a/b.png") == derive_seed("tie", 7, 2, "a/b.png")
    assert generator(0, "pool").integers(1 << 30) == 495389376


@given(st.lists(st.one_of(st.integers(), st.text(), st.booleans(), st.none()), max_size=4))
def test_63_bits_and_repeatable(parts):
    assert 0 <= derive_seed(*parts) < 2**63
    assert derive_seed(*parts) == derive_seed(*parts)


def test_numpy_and_python_numbers_agree_but_types_differ():
    assert derive_seed(np.int64(3), np.str_("a"), np.float64(0.5)) == derive_seed(3, "a", 0.5)
    assert len({derive_seed(x) for x in (1, "1", 1.0, True, None, (1,), "")}) == 7
    assert derive_seed("a", "b") != derive_seed("ab") != derive_seed("b", "a")


@pytest.mark.parametrize("part", [object(), float("nan"), {1: 2}, np.zeros(2)])
def test_parts_without_a_stable_text_are_refused(part):
    with pytest.raises(TypeError):
        derive_seed(part)
