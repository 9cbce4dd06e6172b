"""What the package needs of Detectron2 beyond its documented interface: the one place for differences of versions.

docs/versions.md lists where each name is used, and which versions were looked at.
"""

import importlib

from detectron2.utils import comm

# Names that newer versions brought (since 0.6 of November 2021), that are private, or that are in no reference page.
RELIED_ON = {
    "detectron2.checkpoint": ("DetectionCheckpointer._load_model",),
    "detectron2.engine": ("AMPTrainer", "SimpleTrainer", "create_ddp_model"),
    "detectron2.engine.defaults": ("default_writers",),
    "detectron2.evaluation": ("inference_context",),
    "detectron2.modeling.backbone": ("SimpleFeaturePyramid",),
    "detectron2.modeling.backbone.fpn": ("LastLevelMaxPool",),
    "detectron2.modeling.meta_arch.dense_detector": ("DenseDetector",),
    "detectron2.modeling.proposal_generator": ("RPN.label_and_sample_anchors",),
    "detectron2.modeling.roi_heads": (
        "CascadeROIHeads._create_proposals_from_boxes",
        "CascadeROIHeads._match_and_label_boxes",
        "Res5ROIHeads._shared_roi_transform",
        "StandardROIHeads._forward_box",
    ),
    "detectron2.modeling.roi_heads.cascade_rcnn": ("_ScaleGradient",),
    "detectron2.modeling.roi_heads.fast_rcnn": ("fast_rcnn_inference_single_image",),
    "detectron2.solver": ("LRMultiplier",),
    "detectron2.solver.build": ("get_default_optimizer_params", "maybe_add_gradient_clipping"),
    "detectron2.structures.boxes": ("matched_pairwise_iou",),
    "detectron2.utils.events": ("has_event_storage",),
}


def absent_names() -> list[str]:
    """Names of `RELIED_ON` that the installed Detectron2 does not have."""
    return [f"{m}.{name}" for m, names in RELIED_ON.items() for name in names if not _has(m, name)]


def _has(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ModuleNotFoundError, AttributeError):
        return False
    return True


def check_detectron2() -> None:
    """Raise ImportError unless the installed Detectron2 has all that the package needs."""
    absent = absent_names()
    if absent:
        import detectron2

        raise ImportError(
            f"Detectron2 {detectron2.__version__} in {detectron2.__path__[0]} is not one that osal_detectron2 works "
            f"with: it lacks {', '.join(absent)}. Upstream's main branch or sal-detectron2==0.7.2 will do; the wheels "
            "of Detectron2 0.6 (2021) are too old. docs/install.md says how to install either"
        )


def forget_local_group() -> None:
    """Drop Detectron2's last reference to the process group of this machine, which it never destroys."""
    if hasattr(comm, "_LOCAL_PROCESS_GROUP"):
        comm._LOCAL_PROCESS_GROUP = None
