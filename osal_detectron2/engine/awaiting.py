"""A run waits for people by ending, and never without a word."""

from detectron2.utils import comm

from ..core.spelling import spelled


class AwaitingLabels(SystemExit):
    """The run stops here, with exit code 0, until people have labelled a batch (docs/human_oracle.md).

    The message has been printed by then, so no trainer or script can end in silence; `str` of it is the message, too.
    A SystemExit, so that none needs to know of it, and Detectron2's loop logs no traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(0)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __reduce__(self):
        return type(self), (self.message,)


def await_labels(message: str) -> None:
    """Say `message` once and raise AwaitingLabels. Collective."""
    if comm.is_main_process():
        print(f"\n{spelled(message)}", flush=True)
    comm.synchronize()  # a process that ends early would cut off one that still waits for its message
    raise AwaitingLabels(message)
