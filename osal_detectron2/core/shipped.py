"""The configs that come with the package: `configs/` of the clone, or a copy of it where there is none."""

from pathlib import Path

CONFIGS = (Path(__file__).parents[1] / "configs").resolve()


def find_config(path: str) -> str:
    """`path`, or the packaged file where `path` is below configs/ and no such file is there."""
    name = Path(path)
    if name.parts[:1] == ("configs",) and not name.exists():
        packaged = CONFIGS.joinpath(*name.parts[1:])
        if packaged.is_file():
            return str(packaged)
    return path
