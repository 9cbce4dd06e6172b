"""The images of a run's tiles: where they lie, what they look like, and small JPEGs of them for the page."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import yaml
from PIL import Image

from ..core.run_config import config_file
from ..core.store import write_npz
from ..data.appearance import appearance

APPEARANCE = "appearance.npz"  # in the run's folder, in no hash: what was seen of the tiles, for a later page
SIDE = 320  # pixels of the longer side of a tile in the page
MOST_BYTES = 24_000  # of one picture in the page
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Seen:
    """What is remembered of a tile's image. features: (14,), see data/appearance.py."""

    path: str
    width: int
    height: int
    features: np.ndarray


class Pictures:
    """The images of the tiles of a run; a tile whose image is not there, or cannot be read, has none.

    files: {image key: path} of those who know; else root, a folder below which the keys are; else where they were seen
    before; else where the run's config says.
    """

    def __init__(
        self,
        run_folder: Path,
        *,
        files: Mapping[str, str] | None = None,
        root: str | Path | None = None,
    ) -> None:
        self.cache, self.files = Path(run_folder) / APPEARANCE, files or {}
        self.roots = [Path(p) for p in (root, _configured_root(run_folder)) if p]
        self.told = root is not None
        self.seen = _read(self.cache)
        self.new = False

    def open(self, key: str) -> Image.Image | None:
        """The image as RGB."""
        for path in self._places(key):
            try:
                with Image.open(path) as picture:
                    picture = picture.convert("RGB")
            except _UNREADABLE:
                continue
            known = self.seen.get(key)
            if known is None or (known.path, known.width, known.height) != (str(path), *picture.size):
                self.seen[key] = Seen(str(path), *picture.size, appearance(picture))
                self.new = True
            return picture
        return None

    def look(self, key: str) -> Seen | None:
        """What is known of a tile, from before or from its image."""
        if key not in self.seen:
            self.open(key)
        return self.seen.get(key)

    def keep(self) -> None:
        """Write what was seen for the first time. Raises OutputError."""
        if not self.new:
            return
        keys = sorted(self.seen)
        seen = [self.seen[key] for key in keys]
        write_npz(
            self.cache,
            keys=np.array(keys),
            paths=np.array([one.path for one in seen]),
            sizes=np.array([(one.width, one.height) for one in seen]),
            features=np.array([one.features for one in seen]),
        )
        self.new = False

    def _places(self, key: str) -> Iterable[Path]:
        if key in self.files:
            yield Path(self.files[key])
        if not self.told and key in self.seen:
            yield Path(self.seen[key].path)
        yield from (root / key for root in self.roots)


def data_uri(picture: Image.Image, *, side: int = SIDE) -> str:
    """A JPEG of at most `side` pixels and MOST_BYTES bytes, as an address that holds it."""
    picture = picture.copy()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    for quality in (78, 60, 40, 20):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _read(path: Path) -> dict[str, Seen]:
    """{} where there is no such file or it is damaged: it can be made again."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = [stored[name].tolist() for name in ("keys", "paths", "sizes")]
            return {
                key: Seen(file, int(w), int(h), row)
                for key, file, (w, h), row in zip(*columns, stored["features"])
            }
    except (OSError, KeyError, EOFError, ValueError, TypeError, BadZipFile):
        return {}


def _configured_root(run_folder: Path) -> Path | None:
    """The folder of the training images by the config of the run; None where that does not say it."""
    try:
        content = yaml.safe_load(config_file(run_folder).read_text(encoding="utf-8"))
        data = content["OSAL"]["DATA"]
        root = data["TRAIN_IMAGE_ROOT"] or (data["TRAIN_JSON"] and Path(data["TRAIN_JSON"]).parent)
        return Path(root) if root else None
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        return None
