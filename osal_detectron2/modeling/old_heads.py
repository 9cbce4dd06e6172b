"""ROI heads under the names that they had when each combination of box branches was a class of its own."""

from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY

from ..renamed import OLD_HEADS, branches_of_old_heads


def old_heads(heads: type) -> list[type]:
    """Prototype..., Evidential... and PrototypeEvidential..., which are `heads` with the branches of the name.

    For code that derives from them and for configs that no run converts (`renamed`).
    """
    return [_old(heads, name) for name, (new, _) in OLD_HEADS.items() if new == heads.__name__]


def _old(heads: type, name: str) -> type:
    class Old(heads):
        @classmethod
        def from_config(cls, cfg, input_shape):
            cfg = cfg.clone()
            cfg.defrost()
            cfg.MODEL.ROI_HEADS.BOX_BRANCHES = branches_of_old_heads(name, cfg.MODEL.ROI_HEADS.BOX_BRANCHES)
            return super().from_config(cfg, input_shape)

    Old.__name__ = Old.__qualname__ = name
    Old.__module__ = heads.__module__
    Old.__doc__ = f"Old name of `{heads.__name__}` with the box branches {', '.join(OLD_HEADS[name][1])}."
    ROI_HEADS_REGISTRY.register(Old)
    return Old
