"""Random: the seeded control arm (docs/reproducibility.md 3.1). No forward pass."""

from .base import Query, QueryContext, Selection, Strategy, register, require_pool


@register
class Random(Strategy):
    """Tiles in the order of a hash of (seed, round, key): independent of the order of the input."""

    name = "random"

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        selected = tuple(context.rank(context.pool))[: context.size]
        return Selection(selected=selected, reasons={k: "drawn at random" for k in selected})
        yield  # makes this a generator, as the contract asks
