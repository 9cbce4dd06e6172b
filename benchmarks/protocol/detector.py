"""The screening's detector: a classifier of fixed proposals, trained on the labelled regions of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from osal_detectron2.core.errors import ConfigError

from .pool import Scene
from .price import CostModel
from .regression import fit, logits

POLICIES = ("drop", "ignore", "class")  # unknown nuclei that are labelled: background, left out, or a class
FOREGROUND = 0.25  # the share of nuclei in the weight of a training set, as POSITIVE_FRACTION has it
DRAFT_SCORE = 0.5


@dataclass(frozen=True)
class Recipe:
    """penalty: of the logistic regression; divided by the number of labelled nuclei if `per_nucleus`."""

    penalty: float
    per_nucleus: bool = False


def training_set(
    scene: Scene, regions: Sequence[int], policy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """x (n, D), labels (n,), weights (n,) that sum to one, number of classes: the known, `class`: unknown, background.

    Proposals in the regions, and the labelled nuclei themselves, as Detectron2 adds them to the proposals.
    """
    if policy not in POLICIES:
        raise ConfigError(f"policy {policy!r} is not one of {', '.join(POLICIES)}")
    known = scene.num_known
    rows = np.concatenate([scene.proposals_of[r] for r in regions])
    nuclei = np.flatnonzero(np.isin(scene.nucleus_region, regions))
    label, nucleus_label = scene.label[rows], scene.nucleus_class[nuclei]
    if policy != "class":
        nuclei, nucleus_label = nuclei[nucleus_label < known], nucleus_label[nucleus_label < known]
        if policy == "ignore":
            rows, label = rows[label != known], label[label != known]
        label = np.minimum(label, known)
    background = known + (policy == "class")
    labels = np.concatenate([label, nucleus_label])
    positive = labels < background
    share = np.where(
        positive, FOREGROUND / max(positive.sum(), 1), (1 - FOREGROUND) / max((~positive).sum(), 1)
    )
    x = np.concatenate([scene.x[rows], scene.nucleus_x[nuclei]])
    return x, labels, share / share.sum(), background + 1


def train(
    scene: Scene, regions: Sequence[int], *, policy: str, recipe: Recipe, start: np.ndarray | None = None
) -> np.ndarray:
    """Weights of the classifier at its optimum (see `regression.fit`)."""
    x, labels, weights, classes = training_set(scene, regions, policy)
    penalty = recipe.penalty
    if recipe.per_nucleus:
        penalty /= max(int((labels < classes - 1).sum()), 1)
    return fit(x, labels, weights, classes=classes, penalty=penalty, start=start)


def posteriors(x: np.ndarray, w: np.ndarray, known: int) -> np.ndarray:
    """(n, K + 1): the known classes, and all else in the last column."""
    p = np.exp(logits(x, w))
    p /= p.sum(axis=1, keepdims=True)
    return np.concatenate([p[:, :known], p[:, known:].sum(axis=1, keepdims=True)], axis=1)


@dataclass(frozen=True)
class State:
    """What a rule may look at: the labels so far, the detector that they give, and prices expected by it.

    labelled: regions in the order of labelling. step: number of the query. price: seconds that may be spent in all,
    spent: of them so far. w: of the target. auxiliary: classifier of known, unknown, background, made when first asked.
    """

    scene: Scene
    labelled: tuple[int, ...]
    seed: int
    step: int
    cost: CostModel
    price: float
    spent: float
    w: np.ndarray
    recipe: Recipe

    @cached_property
    def unlabelled(self) -> np.ndarray:
        return np.setdiff1d(np.arange(len(self.scene.keys)), self.labelled)

    @cached_property
    def posterior(self) -> np.ndarray:
        return posteriors(self.scene.x, self.w, self.scene.num_known)

    @cached_property
    def auxiliary_posterior(self) -> np.ndarray:
        """(n, 3): known, unknown, background."""
        binary = replace(
            self.scene,
            known=("known",),
            label=np.select(
                [self.scene.label < self.scene.num_known], [0], self.scene.label - self.scene.num_known + 1
            ),
            nucleus_class=(self.scene.nucleus_class >= self.scene.num_known).astype(int),
        )
        w = train(binary, self.labelled, policy="class", recipe=self.recipe)
        p = np.exp(logits(self.scene.x, w))
        return p / p.sum(axis=1, keepdims=True)

    @cached_property
    def open_set_logits(self) -> np.ndarray:
        """(n, K + 2): the known classes, all unknown nuclei as one, background."""
        w = train(self.scene, self.labelled, policy="class", recipe=self.recipe)
        return logits(self.scene.x, w)

    @cached_property
    def have(self) -> np.ndarray:
        """(K,) labelled nuclei of each known class."""
        return self.scene.counts[list(self.labelled), :-1].sum(axis=0)

    @cached_property
    def expected(self) -> np.ndarray:
        """(R, K) nuclei of each known class expected in each region: posteriors summed, scaled to the labelled ones."""
        return self._summed(self.posterior[:, :-1], self.have)

    @cached_property
    def expected_nuclei(self) -> np.ndarray:
        """(R,) nuclei expected of any class: the localiser's scores summed, scaled to the labelled ones."""
        everything = self.scene.counts[list(self.labelled)].sum()
        return self._summed(self.scene.score[:, None], np.array([everything]))[:, 0]

    @cached_property
    def expected_drafts(self) -> np.ndarray:
        """(R, 3): drafts expected to be right, drafts expected to be wrong, nuclei expected to have none."""
        score = self.posterior[:, :-1].max(axis=1)
        drafted = score >= DRAFT_SCORE
        right, wrong = self._sums(np.stack([score * drafted, (1 - score) * drafted], axis=1)).T
        return np.stack([right, wrong, (self.expected_nuclei - right).clip(min=0)], axis=1)

    @cached_property
    def expected_corrections(self) -> np.ndarray:
        """(R,) drafts expected to be wrong and nuclei expected to have none, scaled to what the labelled ones had."""
        expected = self.expected_drafts[:, 1:].sum(axis=1)
        labelled = list(self.labelled)
        truth = sum(sum(self.drafts(region)[1:]) for region in labelled)
        return expected * (1 + truth) / (1 + expected[labelled].sum())

    @cached_property
    def expected_seconds(self) -> np.ndarray:
        """(R,) price expected of each region."""
        if not self.cost.drafts:
            return np.array([self.cost.seconds(n) for n in self.expected_nuclei])
        return np.array(
            [self.cost.seconds(0, right=r, wrong=w, missed=m) for r, w, m in self.expected_drafts]
        )

    def seconds(self, region: int) -> float:
        """True price of one region, with this detector's drafts if there are drafts."""
        if not self.cost.drafts:
            return self.cost.seconds(int(self.scene.counts[region].sum()))
        right, wrong, missed = self.drafts(region)
        return self.cost.seconds(0, right=right, wrong=wrong, missed=missed)

    def drafts(self, region: int) -> tuple[int, int, int]:
        """Drafts of one region that are right, drafts that are wrong, and nuclei without one."""
        rows = self.scene.proposals_of[region]
        p, label = self.posterior[rows, :-1], self.scene.label[rows]
        drafted = p.max(axis=1) >= DRAFT_SCORE
        right = int((drafted & (p.argmax(axis=1) == label)).sum())
        on_nucleus = int((drafted & (label <= self.scene.num_known)).sum())
        missed = max(int(self.scene.counts[region].sum()) - on_nucleus, 0)
        return right, int(drafted.sum()) - right, missed

    def _sums(self, values: np.ndarray) -> np.ndarray:
        table = np.zeros((len(self.scene.keys), values.shape[1]))
        inside = self.scene.region >= 0
        np.add.at(table, self.scene.region[inside], values[inside])
        return table

    def _summed(self, values: np.ndarray, truth: np.ndarray) -> np.ndarray:
        table = self._sums(values)
        return table * (1 + truth) / (1 + table[list(self.labelled)].sum(axis=0))
