"""The real SqueezeNet v1.0 of the data folder, and the photographs that it reads.

Iandola et al. 2016, in the pruned and quantised release of Han et al. 2016: 1.2 million weights, ImageNet top-1 .62.
Its input is blue, green, red from 0 to 255 less the mean of each; the last convolution has a padding, unlike
torchvision's.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.figures import data_folder

MEAN = (104.0, 117.0, 123.0)
SHORTER, SIDE = 256, 227
WIDTHS = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}


class Fire(nn.Module):
    """Squeeze to few channels, then expand by 1x1 and 3x3 convolutions side by side."""

    def __init__(self, before: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Return `2 * expanded` channels."""
        squeezed = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()], 1)


class SqueezeNet(nn.Module):
    """SqueezeNet v1.0 with the names of its published weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        before = 96
        for number, (squeezed, expanded) in WIDTHS.items():
            setattr(self, f"fire{number}", Fire(before, squeezed, expanded))
            before = 2 * expanded
        self.conv10 = nn.Conv2d(before, 1000, 1, padding=1)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
        """Return the mean of each class's map."""
        x = self.conv1(x).relu()
        for number in WIDTHS:
            x = self.pool(x) if number in (2, 5, 9) else x
            x = getattr(self, f"fire{number}")(x)
        return self.conv10(x).relu().mean((2, 3))


def squeezenet() -> SqueezeNet:
    """Load the network, in evaluation mode."""
    from safetensors.torch import load_file

    model = SqueezeNet()
    model.load_state_dict(load_file(data_folder("squeezenet_v1.0_imagenet") / "squeezenet_v1_0.safetensors"))
    return model.eval().requires_grad_(False)


def read_images(paths: Iterable[Path]) -> Float[Tensor, "b 3 h w"]:
    """Read photographs as the network wants them: shorter side 256, the middle 227 x 227."""
    import numpy as np
    from PIL import Image

    found: list[Tensor] = []
    for path in paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        scale = SHORTER / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32)
        found.append(torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1) - torch.tensor(MEAN)[:, None, None])
    return torch.stack(found)


def imagenet() -> tuple[Float[Tensor, "n 3 h w"], Tensor, list[str]]:
    """Return the photographs of ImageNet, their classes, and the names of all classes."""
    folder = data_folder("imagenet_sample")
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (folder / "imagenet_classes.csv").open() as file:
        names = [row[-1] for row in csv.reader(file)][-1000:]
    images = read_images(folder / "images" / row["file"] for row in rows)
    return images, torch.tensor([int(row["class_index"]) for row in rows]), names
