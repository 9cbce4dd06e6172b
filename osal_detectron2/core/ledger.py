"""The record of a run: who was selected and labelled when, each round chained to the one before by a hash.

Layout of the run folder (OUTPUT_DIR):

    run.json                          header, written once
    rounds/init/                      the initial labelled tiles
    rounds/000/, rounds/001/, ...     round r was trained on everything labelled before it
        selection.json                which tiles, written by the engine before the oracle is asked
        labels.json                   the oracle's answer
        metrics.json, scores.npz      evaluation and the pool's scores, where there are any
        commit.json                   written last: the round counts from here on, and never changes again
    rounds/002+/                      the second commit of a last round whose run was extended (extension.py)

The record holds no times (timing.json does, outside of the chain): the same run gives the same bytes. Whatever a killed
process left of a round without commit.json is used or written again. All reading checks the chain; `core.verify` lists
every fault instead of stopping at the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .chain import COMMIT_SCHEMA, before, read_chain
from .config_record import changes, plain
from .errors import DataError, LedgerError
from .extension import EXTENSION, extended, folder_of, refusal, write_extension
from .labels import LABELLED, REVIEWED_EMPTY, LabelFile, TileLabels
from .rounds import INIT, budget_of, first_duplicate, next_round
from .run_config import with_front
from .store import read_json, sha256_file, write_json

RUN_SCHEMA = "osal-run/1"
SELECTION_SCHEMA = "osal-selection/1"
HASHED_FILES = ("selection.json", "labels.json", "metrics.json", "scores.npz", EXTENSION)


class Ledger:
    """The run in `folder`. Only `header` is kept in memory: run.json with the plan as extensions have made it."""

    def __init__(self, folder: Path, header: dict):
        self.folder = folder
        self.header = header

    # ---- the run ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        folder: str | Path,
        *,
        strategy: str,
        seed: int,
        known_classes: Sequence[str],
        pool: Sequence[str],
        plan: Sequence[int],
        config: Mapping,
        dataset_sha256: str,
        versions: Mapping,
        front: str | None = None,
        budget: Mapping | None = None,
    ) -> Ledger:
        """Begin a run: write run.json. pool: all image keys; plan: labelled tiles a round; front: see run_config.py;
        budget: {"unit", "init", "query"}, of another unit than tiles. `plan` is then an estimate, and bounds no query.

        Raises LedgerError if there is a run already or the pool and the plan do not fit; OutputError.
        """
        folder = Path(folder)
        if cls.exists(folder):
            raise LedgerError(f"{folder}: holds a run already; go on with --resume or use a new OUTPUT_DIR")
        if twice := first_duplicate(pool):
            raise LedgerError(f"the training set has two tiles named {twice}; file_name must be unique")
        plan = [int(count) for count in plan]
        if not plan or plan[0] < 1 or plan[-1] > len(pool) or any(b <= a for a, b in zip(plan, plan[1:])):
            raise LedgerError(f"a plan of {plan} labelled tiles does not fit a pool of {len(pool)} tiles")
        header = {
            "schema": RUN_SCHEMA,
            "strategy": strategy,
            "seed": seed,
            "known_classes": list(known_classes),
            "pool": sorted(pool),
            "plan": plan,
            "config": plain(config),
            "dataset_sha256": dataset_sha256,
            "versions": plain(versions),
        }
        # A run of an older version has no front, one with a budget of tiles no other budget.
        header |= {k: v for k, v in (("front", front), ("budget", budget)) if v is not None}
        write_json(folder / "run.json", header)
        return cls(folder, header)

    @classmethod
    def open(cls, folder: str | Path) -> Ledger:
        """The run in `folder`. Raises LedgerError (no run, other schema) or DataError (damaged run.json)."""
        folder = Path(folder)
        if not cls.exists(folder):
            raise LedgerError(
                f"{folder}: no run.json, so no run was started here; give the OUTPUT_DIR of a run"
            )
        header = read_json(folder / "run.json")
        if not isinstance(header, dict) or header.get("schema") != RUN_SCHEMA:
            raise LedgerError(
                f"{folder / 'run.json'}: is not of schema {RUN_SCHEMA}; use the version that wrote it"
            )
        return cls(folder, with_front(extended(header, folder)))

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether a run was started in `folder`."""
        return (Path(folder) / "run.json").is_file()

    def check_config(self, config: Mapping, *, ignore: tuple[str, ...] = (), added: Mapping = {}) -> None:
        """Raises LedgerError naming every key whose value is not the one that the run was started with.

        Keys that start with one of `ignore` do not count. `added`: what a key was before there was such a key, for
        runs of an older version.
        """
        if changed := changes(self.header["config"], config, ignore=ignore, added=added):
            raise LedgerError(
                f"{self.folder}: the config is not the one this run was started with: {'; '.join(changed)}. "
                "Set the old value, or start a new run in a new OUTPUT_DIR"
            )

    def check_dataset(self, dataset_sha256: str) -> None:
        """Raises LedgerError if the training set is not the one that the run was started with."""
        if dataset_sha256 != self.header["dataset_sha256"]:
            raise LedgerError(
                f"{self.folder}: the training set changed since this run was started (SHA-256 "
                f"{self.header['dataset_sha256'][:12]} -> {dataset_sha256[:12]}). Restore it, or start a "
                "new run in a new OUTPUT_DIR"
            )

    def check_growth(self, plan: Sequence[int]) -> None:
        """Raises LedgerError unless `plan` is the present one, maybe with more rounds behind it."""
        if reason := refusal(self.header["plan"], plan, pool=len(self.header["pool"])):
            raise LedgerError(f"{self.folder}: {reason}")

    def extend(self, *, plan: Sequence[int], queries: int) -> None:
        """Let the run go on to `plan`, for `queries` queries; nothing happens where that is its plan already.

        Raises LedgerError for a plan that is not the present one with more rounds behind it.
        """
        plan = [int(count) for count in plan]
        if plan == self.header["plan"]:
            return
        self.check_growth(plan)
        last = len(self.header["plan"]) - 1
        open_round = None if self.last_committed == last else next_round(self.last_committed)
        write_extension(self.folder, open_round=open_round, last=last, plan=plan, queries=queries)
        self.header = extended(self.header, self.folder)

    # ---- the rounds ---------------------------------------------------------------------------------------

    def round_dir(self, round_index: str | int) -> Path:
        """The folder of a round ("init" or a number); it need not exist yet."""
        return folder_of(self.folder, round_index)

    def budget(self, round_index: str | int) -> int:
        """Tiles that the plan gives to the query of `round_index`; 0 for the last round."""
        return budget_of(self.header["plan"], round_index)

    def commits(self) -> list[dict]:
        """The commits in order, "init" first. Raises LedgerError where the chain is broken."""
        return read_chain(self.folder)

    @property
    def last_committed(self) -> None | str | int:
        """None, "init", or the number of the last committed round."""
        chain = self.commits()
        return chain[-1]["round"] if chain else None

    def is_committed(self, round_index: str | int) -> bool:
        """Whether `round_index` is committed."""
        return any(commit["round"] == round_index for commit in self.commits())

    def labels(self) -> dict[str, TileLabels]:
        """The labels of all committed rounds, in the order of selection; rejected tiles included.

        Raises LedgerError naming a label file that changed after its commit.
        """
        tiles: dict[str, TileLabels] = {}
        for commit in self.commits():
            path = self.round_dir(commit["round"]) / "labels.json"
            if sha256_file(path) != commit["files"]["labels.json"]:
                raise LedgerError(
                    f"{path}: changed after round {commit['round']} was committed; restore it from a copy, "
                    "or start a new run in a new OUTPUT_DIR with the corrected labels"
                )
            answers = LabelFile.read(path).tiles
            tiles.update((key, answers[key]) for key in commit["selected"])
        return tiles

    def labelled_keys(self) -> list[str]:
        """Tiles to train on ("labelled" and "reviewed_empty"), in the order of selection."""
        usable = (LABELLED, REVIEWED_EMPTY)
        return [key for c in self.commits() for key in c["selected"] if c["states"][key] in usable]

    def pool_keys(self) -> list[str]:
        """Tiles that no committed round selected, sorted; a rejected tile does not come back."""
        selected = {key for commit in self.commits() for key in commit["selected"]}
        return [key for key in self.header["pool"] if key not in selected]

    def selection(self, round_index: str | int) -> dict | None:
        """selection.json of a round, or None where it is missing or no longer valid: make it again.

        Valid: of this round and strategy, without duplicates and within the plan; for a round not yet
        committed, also taken from the present pool.
        """
        path = self.round_dir(round_index) / "selection.json"
        try:
            selection = read_json(path)
            if selection["schema"] != SELECTION_SCHEMA or selection["round"] != round_index:
                return None
            if round_index != INIT and selection["strategy"] != self.header["strategy"]:
                return None
            if not self.is_committed(round_index):
                self._check_selected(round_index, selection["selected"])
        except (DataError, LedgerError, KeyError, TypeError):
            return None
        return selection

    def commit(
        self,
        round_index: str | int,
        *,
        selected: Sequence[str],
        labels: Mapping[str, TileLabels],
        classes: Sequence[str] | None = None,
        cost: Mapping | None = None,
    ) -> None:
        """Make `round_index` final: write labels.json where it is missing, then commit.json with the hashes of all.

        selected: image keys in the order of selection, as in selection.json; [] in the last round.
        labels: the answer for each of them. classes: all class names that labels.json may hold
        (default: the known classes and those that occur). cost: of the query, for a budget of another unit than tiles.
        Committing the same again changes nothing. Raises LedgerError where the round contradicts the record:
        another content than committed, a round left out, tiles outside the pool, over the budget, unlabelled.
        """
        selected, folder = list(selected), self.round_dir(round_index)
        chain = self.commits()
        if any(commit["round"] == round_index for commit in chain):
            committed = LabelFile.read(folder / "labels.json").tiles
            before_that = next(commit["selected"] for commit in chain if commit["round"] == round_index)
            if before_that != selected or committed != dict(labels):
                raise LedgerError(
                    f"{folder}: round {round_index} is committed already, with other tiles or labels; a committed "
                    "round never changes. Go on with --resume, or start a new run in a new OUTPUT_DIR"
                )
            return
        expected = next_round(chain[-1]["round"] if chain else None)
        if round_index != expected:
            raise LedgerError(f"{folder}: round {round_index} cannot be committed before round {expected}")
        self._check_selected(round_index, selected)
        if missing := [key for key in selected if key not in labels]:
            raise LedgerError(f"{folder}: tile {missing[0]} has no label ({len(missing)} in all); import it")
        if extra := [key for key in labels if key not in set(selected)]:
            raise LedgerError(f"{folder}: {extra[0]} has labels but was not selected ({len(extra)} in all)")
        on_file = read_json(folder / "selection.json")
        stands = (on_file.get("selected"), on_file.get("round")) if isinstance(on_file, dict) else None
        if stands != (selected, round_index):
            raise LedgerError(
                f"{folder / 'selection.json'}: is not the selection of round {round_index}; delete the file"
            )

        if classes is None:
            classes = sorted({name for tile in labels.values() for name in tile.classes})
        answers = LabelFile(classes=tuple(classes), tiles={key: labels[key] for key in selected})
        answers.write_once(folder / "labels.json")
        previous = before(self.folder, round_index)
        write_json(
            folder / "commit.json",
            {
                "schema": COMMIT_SCHEMA,
                "round": round_index,
                "previous": sha256_file(previous),
                "selected": selected,
                "files": {n: sha256_file(folder / n) for n in HASHED_FILES if (folder / n).is_file()},
                "states": {key: labels[key].state for key in selected},
                **({} if cost is None else {"cost": dict(cost)}),
            },
        )

    # ---- inside -------------------------------------------------------------------------------------------

    def _check_selected(self, round_index: str | int, selected: Sequence[str]) -> None:
        """Raises LedgerError unless the open `round_index` may select these tiles."""
        where, budget, pool = self.round_dir(round_index), self.budget(round_index), set(self.pool_keys())
        if twice := first_duplicate(selected):
            raise LedgerError(f"{where}: tile {twice} is selected twice")
        if strange := [key for key in selected if key not in pool]:
            known = strange[0] in self.header["pool"]
            reason = "was selected in an earlier round" if known else "is not a tile of the training set"
            raise LedgerError(f"{where}: tile {strange[0]} cannot be selected: it {reason}")
        if len(selected) > budget and "budget" not in self.header:
            raise LedgerError(
                f"{where}: {len(selected)} tiles are selected, but the plan gives {budget} to this round"
            )
        if budget and pool and not selected:
            raise LedgerError(f"{where}: no tile is selected, but the plan gives {budget} to this round")
