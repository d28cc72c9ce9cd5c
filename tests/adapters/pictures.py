"""A tiny ViT on disk, and pictures of noise."""

import json
from pathlib import Path

import numpy as np
import torch


def save_vit(folder: Path, *, processor: bool) -> Path:
    """Save a random ViT of one layer for images of 16 x 16, with an image processor if asked."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4,
        id2label={0: "cat", 1: "dog", 2: "owl"}, label2id={"cat": 0, "dog": 1, "owl": 2},
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTForImageClassification(config).eval().save_pretrained(folder)
    if processor:
        wanted = {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 16, "width": 16},
                  "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5] * 3,
                  "image_std": [0.5] * 3, "resample": 2}  # fmt: skip
        (folder / "preprocessor_config.json").write_text(json.dumps(wanted))
    return folder


def picture(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    """Write a picture of noise, as wide and high as said."""
    from PIL import Image

    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype="uint8")
    Image.fromarray(noise).save(path)
    return path
