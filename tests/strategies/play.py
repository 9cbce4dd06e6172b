"""Strategies in the engine's own loop, with tables that a test makes up."""

from types import SimpleNamespace

from osal_detectron2.scoring.query import run_query
from osal_detectron2.strategies import Selection


def play(strategy, context, reply, requests=None) -> Selection:
    """The selection, where reply(request) is the table of a pass; the passes are added to `requests`."""

    def run(request, **_):
        if requests is not None:
            requests.append(request)
        return reply(request)

    return run_query(strategy, context, SimpleNamespace(run=run))
