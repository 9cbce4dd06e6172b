import pytest
from miniature_set import MiniatureSet


@pytest.fixture
def mini(tmp_path):
    return MiniatureSet(tmp_path)
