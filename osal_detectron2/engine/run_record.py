"""What run.json says of a session, and the ledger that is found in its folder."""

from collections.abc import Mapping
from pathlib import Path

from detectron2.config import CfgNode

from ..core.budget import TILES
from ..core.errors import LedgerError
from ..core.extension import QUERIES
from ..core.ledger import Ledger
from ..renamed import renamed
from ..strategies import available, get_strategy
from .fingerprint import count_nuclei, data_sha256, matching_config, versions
from .plan import Plan
from .resolve import default_config


def facts_of(plan: Plan, osal: CfgNode, *, config: Mapping, front: str) -> dict:
    """What run.json says, as arguments of `Ledger.create`. config: flat settings that a resumed run must not change."""
    budget = plan.budget
    recorded = {**config, "plan": list(plan.schedule.labelled)}  # INIT_FILE may move, but not change it
    if osal.ORACLE.NAME != "human":  # for the recall of the report
        recorded["train_nuclei"] = count_nuclei(plan.train, num_known=len(plan.known_classes))
    return {
        "strategy": plan.strategy.name,
        "seed": osal.SEED,
        "known_classes": plan.known_classes,
        "pool": [r["image_key"] for r in plan.train],
        "plan": plan.schedule.labelled,
        "config": recorded,
        "dataset_sha256": data_sha256(plan.train, plan.test),
        "versions": versions(),
        "front": front,
        "budget": None
        if budget.unit == TILES
        else {k: getattr(budget, k) for k in ("unit", "init", "query")},
    }


def find_ledger(
    folder: str | Path, *, facts: Mapping, node: str, resume: bool, read_only: bool
) -> Ledger | None:
    """The ledger in `folder`, None if there is no run. Writes nothing; for rank 0.

    Raises LedgerError for a run that is there without `resume`, and for one with another config or other data, unless
    all that differs is that more queries are asked for. `node`: that of the strategy in OSAL.
    """
    if not Ledger.exists(folder):
        return None
    if not resume:
        raise LedgerError(
            f"{folder} holds a run already: add --resume to go on with it, or choose a new OUTPUT_DIR"
        )
    ledger = Ledger.open(folder)
    ledger.header["config"] = renamed(ledger.header["config"])
    if not read_only:  # a preview may ask what another strategy would do
        config, ignore = facts["config"], nodes_of_others(node)
        if config.get(QUERIES) != ledger.header["config"].get(QUERIES):
            ledger.check_growth(config["plan"])
            ignore += (QUERIES, "plan")
        ledger.check_config(config, ignore=ignore, added=matching_config(default_config()))
        ledger.check_dataset(facts["dataset_sha256"])
    return ledger


def nodes_of_others(node: str) -> tuple[str, ...]:
    """Prefixes of the keys that say nothing to a strategy with this `node`: those of the other strategies' nodes."""
    nodes = {get_strategy(name).node for name in available()} - {"", node}
    return tuple(f"OSAL.{node}." for node in sorted(nodes))
