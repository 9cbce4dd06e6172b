"""The oracle of an experiment with annotators who err (core/annotator.py), to size a study before people are asked."""

from collections.abc import Mapping, Sequence

from ..core.annotation_cost import AnnotationCost
from ..core.annotator import Annotators, Skill
from ..core.labels import TileLabels
from .base import register
from .simulated import SimulatedOracle


@register
class ImperfectOracle(SimulatedOracle):
    """Answers with what OSAL.ORACLE.IMPERFECT makes of the annotations of the records, and with the time it took."""

    name = "imperfect"

    def __init__(
        self, *, records: Sequence[Mapping], settings: Mapping, seed: int = 0, **others: Sequence
    ) -> None:
        super().__init__(records=records, settings=settings, seed=seed, **others)
        self.sizes = {r["image_key"]: (r["width"], r["height"]) for r in records}
        found = [a for r in records for a in r["annotations"] if not a.get("iscrowd", 0)]
        self.annotators = Annotators(
            Skill.of_settings(settings["IMPERFECT"]),
            classes=self.class_names,
            nuclei=[(*a["bbox"][2:], a["category_name"]) for a in found],
            cost=AnnotationCost.of_settings(settings),
            seed=seed,
        )

    def at_once(self, keys: Sequence[str]) -> dict[str, TileLabels]:
        said = {}
        for key, truth in super().at_once(keys).items():
            width, height = self.sizes[key]
            said[key] = self.annotators.labels(key, truth, width=width, height=height)
        return said
