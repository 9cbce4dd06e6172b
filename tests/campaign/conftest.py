import pytest
from scans import CLASSES, KNOWN, TILE, write_scans

from osal_detectron2.campaign.folder import Settings
from osal_detectron2.campaign.start import begin


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """A folder of scans with truth.json beside it."""
    folder = tmp_path_factory.mktemp("scans") / "scans"
    write_scans(folder)
    return folder


@pytest.fixture
def settings(scans):
    """settings(**changes): of a campaign of short sittings on the scans."""

    def make(**changes):
        common = {"images": str(scans), "classes": CLASSES, "known": KNOWN, "minutes": 4.0, "tile": TILE}
        return Settings(**{**common, "nucleus_size": 10.0, **changes})

    return make


@pytest.fixture
def campaign(settings, tmp_path):
    """A campaign that has just begun."""
    return begin(tmp_path / "lung", settings())
