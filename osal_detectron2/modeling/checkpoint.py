"""Weights of one plain detector for both detectors of OSALRCNN."""

from detectron2.checkpoint import DetectionCheckpointer

from .detectors import Detectors
from .meta_arch import OSALRCNN

CHILDREN = ("auxiliary", "target")


class OpenSetCheckpointer(DetectionCheckpointer):
    """`DetectionCheckpointer` that loads a plain detector or backbone into both children of OSALRCNN.

    Detectron2 refuses to match one weight of a checkpoint with two of the model, and plain names
    (`backbone.*`, `roi_heads.*`) match none. Each child is loaded as if it stood alone, so layers of another
    shape, such as the classifiers, are skipped and reported. Checkpoints of OSALRCNN itself load as they are.
    """

    def _load_model(self, checkpoint):
        model = Detectors(self.model).model
        names = [key.removeprefix("module.") for key in checkpoint["model"]]
        prefixes = tuple(f"{child}." for child in CHILDREN)
        if not isinstance(model, OSALRCNN) or any(name.startswith(prefixes) for name in names):
            return super()._load_model(checkpoint)
        merged = None
        for child in CHILDREN:
            alone = {**checkpoint, "model": dict(checkpoint["model"])}
            found = DetectionCheckpointer(getattr(model, child))._load_model(alone)
            missing = [f"{child}.{key}" for key in found.missing_keys]
            shapes = [(f"{child}.{key}", *sizes) for key, *sizes in found.incorrect_shapes]
            if merged is None:
                merged = type(found)(missing, list(found.unexpected_keys), shapes)
            else:
                merged.missing_keys.extend(missing)
                merged.incorrect_shapes.extend(shapes)
        checkpoint.pop("model")
        return merged
