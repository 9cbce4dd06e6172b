"""Which images come from one slide: said by a CSV file, a rule for names, the COCO file, or the folders."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..core.errors import ConfigError, DataError
from .images import Parent


def slides_of(parents: Sequence[Parent], *, csv_file: str = "", rule: str = "") -> tuple[dict[str, str], str]:
    """({image name: slide}, how that was told, in words).

    csv_file: with columns image and slide, one row an image. rule: a regular expression that matches somewhere in the
    name; its first group, or all that it matches, is the slide. Raises ConfigError, DataError for an image without one.
    """
    if csv_file and rule:
        raise ConfigError("give --slides or --slide-rule, not both")
    names = [parent.name for parent in parents]
    if csv_file:
        table = _table(csv_file)
        missing = [name for name in names if name not in table]
        if missing:
            raise DataError(f"--slides {csv_file}: has no row for {missing[0]} ({len(missing)} in all)")
        return {name: table[name] for name in names}, f"by {Path(csv_file).name}"
    if rule:
        try:
            matches = {name: re.search(rule, name) for name in names}
        except re.error as error:
            raise ConfigError(f"--slide-rule {rule!r}: is no regular expression ({error})") from error
        found = {name: m and (m[1] if m.re.groups else m[0]) for name, m in matches.items()}
        missing = [name for name in names if not found[name]]
        if missing:
            raise DataError(f"--slide-rule {rule!r}: does not match {missing[0]} ({len(missing)} in all)")
        return {name: str(slide) for name, slide in found.items()}, f"by the rule {rule}"
    if any(parent.group for parent in parents):
        return {p.name: p.group or p.name for p in parents}, "as the COCO file says (group)"
    folders = {name: PurePosixPath(name).parent.as_posix() for name in names}
    if len(set(folders.values())) > 1:
        return folders, "each folder is a slide"
    return dict(zip(names, names)), "each image is a slide of its own"


def _table(path: str) -> dict[str, str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--slides {path}: cannot be read ({error}); give a CSV file in UTF-8") from error
    if not rows or not {"image", "slide"} <= rows[0].keys():
        raise DataError(f"--slides {path}: needs a first line with image,slide and a row for each image")
    return {row["image"]: row["slide"] for row in rows if row["image"] and row["slide"]}
