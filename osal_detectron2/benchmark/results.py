"""The cell files of a benchmark, read back: one JSON for each method, setting, fold and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.annotation_cost import AnnotationCost
from ..core.errors import DataError
from ..core.store import read_json
from ..evaluation.learning_curve import aulc, is_number

CELL_SCHEMA = "osal-cell/1"
# Methods that train once and query nothing: reference lines, not curves.
FULL, INITIAL_ONLY = "full", "initial_only"
REFERENCES = (FULL, INITIAL_ONLY)

Value = float | None


@dataclass(frozen=True)
class CellResult:
    """One run of the grid.

    Attributes:
        path: the file. method, setting, fold, seed: its place in the grid.
        facts: the other fields of the file (commit, config_sha256, hardware, train_tiles, known_classes, ...).
        rounds: the rounds in order. Besides the columns of the file each has labelled_fraction_after_query (the
            place of its query on the x axis, None for the last), and purity and minutes_annotated, worked out where the
            file leaves them out (minutes: with the seconds of `AnnotationCost`).
        aulc, final_mAP50: percent; None where nothing was evaluated. The area of a single point does not exist.
    """

    path: Path
    method: str
    setting: str
    fold: int | str
    seed: int
    facts: Mapping
    rounds: tuple[Mapping, ...]
    aulc: Value
    final_mAP50: Value

    @property
    def pair(self) -> tuple[int | str, int]:
        """(fold, seed): cells of one setting that share it saw the same tiles in the beginning."""
        return self.fold, self.seed

    def column(self, name: str) -> dict[int, float]:
        """{round: value}, without the rounds that have none."""
        return {row["round"]: row[name] for row in self.rounds if is_number(row.get(name))}

    @property
    def purity(self) -> Value:
        """Known nuclei / all nuclei over all queries, without the initial set."""
        known, unknown = (sum(self.column(f"{kind}_queried").values()) for kind in ("known", "unknown"))
        return known / (known + unknown) if known + unknown else None

    @property
    def passes(self) -> Value:
        """Forward passes over tiles that all queries took, whatever the detector; None if not measured."""
        counted = [row["passes"] for row in self.rounds if row.get("passes") is not None]
        return sum(map(_total, counted)) if counted else None


def read_cells(
    folder: str | Path, *, settings: Sequence[str] = (), methods: Sequence[str] = ()
) -> list[CellResult]:
    """The cells in `folder`, ordered by setting, method, fold and seed; empty choices mean all.

    Raises DataError, naming the file, for JSON that is damaged, of another schema or with a field missing, for
    two files with the same cell, for a setting whose files name different known classes (their mAP50 are different
    quantities), for a setting or method that no file has, and for a folder without any.
    """
    folder = Path(folder)
    cells = [_read_cell(path) for path in sorted(folder.glob("*.json"))]
    if not cells:
        raise DataError(
            f"{folder}: holds no cell file (*.json); run osal benchmark, or give its results folder"
        )
    first: dict[tuple, CellResult] = {}
    classes: dict[str, CellResult] = {}
    for cell in cells:
        other = first.setdefault((cell.setting, cell.method, *cell.pair), cell)
        if other is not cell:
            raise DataError(
                f"{cell.path} and {other.path} are both {cell.method} in {cell.setting}, fold {cell.fold}, "
                f"seed {cell.seed}; remove one"
            )
        other = classes.setdefault(cell.setting, cell)
        if set(cell.facts["known_classes"]) != set(other.facts["known_classes"]):
            raise DataError(
                f"{cell.path}: its known classes are not those of {other.path}, which has the same setting "
                f"{cell.setting}; their mAP50 cannot be compared, so rename the setting of one"
            )
    for chosen, present, option in (
        (settings, {c.setting for c in cells}, "--settings"),
        (methods, {c.method for c in cells}, "--methods"),
    ):
        for name in chosen:
            if name not in present:
                raise DataError(
                    f"{option} {name}: no file in {folder} has it; there are {', '.join(sorted(present))}"
                )
    kept = [
        c for c in cells if (not settings or c.setting in settings) and (not methods or c.method in methods)
    ]
    return sorted(kept, key=lambda c: (c.setting, c.method, *c.pair))


def by_method(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """{method: its cells}, in the order of `cells`."""
    groups: dict[str, list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell.method, []).append(cell)
    return groups


def by_setting(cells: Sequence[CellResult]) -> dict[str, list[CellResult]]:
    """{setting: its cells}; the settings with fewest unknown classes first, as in the paper."""
    groups: dict[str, list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(cell.setting, []).append(cell)
    return dict(sorted(groups.items(), key=lambda item: (len(item[1][0].facts["unknown_classes"]), item[0])))


def mixtures(cells: Sequence[CellResult]) -> list[str]:
    """One line for everything that a reader must know before believing a mean over `cells`; none if all is well.

    config_sha256 differs from seed to seed, so configurations are compared by the optional method_sha256, a hash of
    the config without seed and fold.
    """
    lines = []
    for setting, inside in by_setting(cells).items():
        for key, what in (
            ("commit", "commits"),
            ("method_sha256", "configurations"),
            ("versions", "sets of versions"),
        ):
            lines += _mixture(setting, inside, key, what)
        curves = [cell for cell in inside if cell.method not in REFERENCES]
        ranges = {tuple(round(f, 3) for f in _range(cell)) for cell in curves}
        if len(ranges) > 1:
            spans = ", ".join("-".join(f"{100 * f:g} %" for f in span) for span in sorted(ranges))
            lines.append(f"{setting}: AULC covers different ranges of labelled tiles ({spans})")
        tiles = {(cell.fold, cell.facts["train_tiles"]) for cell in inside}
        if len(tiles) > len({fold for fold, _ in tiles}):
            lines.append(f"{setting}: cells of one fold have different numbers of training tiles")
    hardware = {str(cell.facts.get("hardware")) for cell in cells}
    if len(hardware) > 1:
        lines.append(
            f"seconds were measured on {len(hardware)} kinds of hardware and cannot be compared across them"
        )
    return lines


_NEEDED = {
    "method": str, "setting": str, "fold": (int, str), "seed": int, "commit": (str, type(None)),
    "config_sha256": (str, type(None)), "known_classes": list, "unknown_classes": list, "train_tiles": int,
    "rounds": list,
}  # fmt: skip


def _read_cell(path: Path) -> CellResult:
    content = read_json(path)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != CELL_SCHEMA:
        raise DataError(
            f'{path}: its schema is {schema!r}, not "{CELL_SCHEMA}"; keep only cell files of the benchmark in this '
            "folder, or use the version that wrote it"
        )
    for key, kind in _NEEDED.items():
        if key not in content or not isinstance(content[key], kind):
            raise DataError(
                f'{path}: key "{key}" is missing or of the wrong type; remove the file and run the cell again'
            )
    for place, row in enumerate(content["rounds"]):
        if not (
            isinstance(row, dict)
            and isinstance(row.get("round"), int)
            and is_number(row.get("labelled_fraction"))
        ):
            raise DataError(
                f'{path}: rounds[{place}] lacks "round" or "labelled_fraction"; remove the file and run the cell again'
            )
    rows = [dict(row) for row in sorted(content["rounds"], key=lambda row: row["round"])]
    for row, after in zip(rows, [*rows[1:], {}]):
        known, unknown = row.get("known_queried"), row.get("unknown_queried")
        asked = known is not None and unknown is not None
        # The last round queries nothing, though its running totals may be written down.
        row["labelled_fraction_after_query"] = after.get("labelled_fraction") if asked else None
        if row.get("purity") is None and asked and known + unknown:
            row["purity"] = known / (known + unknown)
        tiles, nuclei = row.get("labelled_tiles"), row.get("nuclei_annotated")
        if row.get("minutes_annotated") is None and tiles is not None and nuclei is not None:
            row["minutes_annotated"] = AnnotationCost().minutes(tiles=tiles, nuclei=nuclei)
    scored = [row["mAP50"] for row in rows if is_number(row.get("mAP50"))]
    area = content.get("aulc") if is_number(content.get("aulc")) else aulc(rows)
    places = ("schema", "method", "setting", "fold", "seed", "rounds", "aulc", "final_mAP50")
    return CellResult(
        path=path,
        method=content["method"],
        setting=content["setting"],
        fold=content["fold"],
        seed=content["seed"],
        facts={key: value for key, value in content.items() if key not in places},
        rounds=tuple(rows),
        aulc=area if len(scored) > 1 else None,
        final_mAP50=scored[-1] if scored else None,
    )


def _mixture(setting: str, cells: Sequence[CellResult], key: str, what: str) -> list[str]:
    """A line if `cells` differ in the fact `key`, saying which methods are a mixture in themselves."""
    seen = {method: {_short(c.facts.get(key)) for c in group} for method, group in by_method(cells).items()}
    values = sorted(set().union(*seen.values()))
    if len(values) < 2 or (key == "method_sha256" and all(len(found) == 1 for found in seen.values())):
        return []  # each method has a recipe of its own
    mixed = [method for method, found in seen.items() if len(found) > 1]
    inside = f"mixed within {', '.join(mixed)}" if mixed else "each method has one"
    shown = f" ({', '.join(values)})" if key != "versions" else ""
    return [f"{setting}: cells of {len(values)} {what}{shown}; {inside}"]


def _short(value) -> str:
    if not isinstance(value, str):
        return str(value)
    return value[:8] + ("-dirty" if value.endswith("-dirty") else "")


def _range(cell: CellResult) -> tuple[float, ...]:
    """First and last labelled fraction with an mAP50."""
    fractions = [row["labelled_fraction"] for row in cell.rounds if is_number(row.get("mAP50"))]
    return (min(fractions), max(fractions)) if fractions else ()


def _total(passes) -> float:
    """The sum of all numbers in a nested {detector: {what: passes}}."""
    return sum(map(_total, passes.values())) if isinstance(passes, Mapping) else passes
