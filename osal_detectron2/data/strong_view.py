"""The strongly augmented view of a tile, whose nuclei stay where they are: colours, blur and erased rectangles."""

import torch
from torchvision.transforms import v2


class StrongView:
    """Callable (3, H, W) uint8 -> the same shape and dtype. Draws from torch's global random stream.

    The augmentations of Soft Teacher and Unbiased Teacher that move nothing; the hue varies less, as stains do.

    Args:
        image_format: INPUT.FORMAT, "RGB" or "BGR".
    """

    def __init__(self, image_format: str) -> None:
        self.reverse = image_format == "BGR"
        self.augment = v2.Compose(
            [
                v2.RandomApply(
                    [v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)], p=0.8
                ),
                v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=0.5),
                v2.RandomErasing(p=0.7, scale=(0.01, 0.05), ratio=(0.3, 3.3), value=127),
                v2.RandomErasing(p=0.5, scale=(0.01, 0.03), ratio=(0.3, 3.3), value=127),
            ]
        )

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if self.reverse:
            return self.augment(image.flip(0)).flip(0)
        return self.augment(image)
