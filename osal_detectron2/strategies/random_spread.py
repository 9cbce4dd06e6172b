"""Random over the slides in turn: nuclei of one slide resemble each other, so a label elsewhere says more."""

from collections import Counter

from .base import Query, QueryContext, Selection, Strategy, register, require_pool


@register
class RandomSpread(Strategy):
    """Each tile at random from a slide of which fewest tiles are labelled or selected. No forward pass.

    In the order of Random where every tile is a slide of its own. On CoNSeP it is level with Random or a little better
    at equal annotator seconds (benchmarks/README.md, At equal seconds).
    """

    name = "random_spread"

    def select(self, context: QueryContext) -> Query:
        require_pool(context)
        taken = Counter(context.groups.get(key, key) for key in context.labelled)
        waiting: dict[str, list[str]] = {}
        order = context.rank(context.pool)
        place = {key: number for number, key in enumerate(order)}
        for key in reversed(order):
            waiting.setdefault(context.groups.get(key, key), []).append(key)  # the next one last
        selected: list[str] = []
        reasons: dict[str, str] = {}
        while len(selected) < context.size:
            group = min(waiting, key=lambda g: (taken[g], place[waiting[g][-1]]))
            key = waiting[group].pop()
            reasons[key] = f"drawn at random from {group}, of which {taken[group]} are taken"
            selected.append(key)
            taken[group] += 1
            if not waiting[group]:
                del waiting[group]
        return Selection(selected=tuple(selected), reasons=reasons)
        yield  # makes this a generator, as the contract asks
