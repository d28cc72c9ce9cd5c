"""Image classifiers come from disk whole, and images as their processor makes them, or as arrays as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mnemotrace.adapters.vision import Vision, load_vision, read_array, read_images
from mnemotrace.core.errors import NonFiniteError
from tests.adapters.pictures import picture, save_vit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT with an image processor."""
    return save_vit(tmp_path_factory.mktemp("vit"), processor=True)


@pytest.fixture(scope="module")
def vision(folder: Path) -> Vision:
    return load_vision(folder)


def test_a_classifier_is_loaded_with_its_labels(vision: Vision) -> None:
    assert not vision.model.training
    assert vision.label(1) == "dog (1)"
    assert vision.label(7) == "7"


def test_a_picture_becomes_what_the_processor_makes_of_it(vision: Vision, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", (16, 16))
    found = read_images(vision, [path, path])
    from PIL import Image

    expected = torch.from_numpy(np.asarray(Image.open(path)).copy()).permute(2, 0, 1) / 255 * 2 - 1
    assert found.shape == (2, 3, 16, 16)
    assert torch.allclose(found[1], expected, atol=1e-6)
    assert read_images(vision, [picture(tmp_path / "b.png", (20, 31))]).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 3, 16, 16)])
def test_an_array_is_taken_as_it_is(shape: tuple[int, ...], vision: Vision, tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal(shape)
    np.save(tmp_path / "a.npy", values)
    found = read_images(vision, [tmp_path / "a.npy"])
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(values).float().view(-1, 3, 16, 16))


def test_a_resnet_without_a_processor_takes_arrays_and_says_what_pictures_lack(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=2)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    vision = load_vision(tmp_path / "resnet")
    assert vision.label(0) == "0"  # LABEL_0 is no name
    np.save(tmp_path / "a.npy", np.zeros((3, 32, 32), dtype="float32"))
    assert vision.model(read_images(vision, [tmp_path / "a.npy"])).logits.shape == (1, 2)
    with pytest.raises(ValueError, match=r"no image processor in .*; expected preprocessor_config.json"):
        read_images(vision, [picture(tmp_path / "a.png", (32, 32))])


def test_what_is_no_image_classifier_is_refused(folder: Path, tmp_path: Path) -> None:
    from transformers import ViTModel

    with pytest.raises(FileNotFoundError, match="neither a directory nor a model"):
        load_vision("no/such/model")
    ViTModel.from_pretrained(folder).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"without the weights classifier.bias, .*; expected a whole image classifier"):
        load_vision(tmp_path / "bare")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ValueError, match="cannot load as an image classifier"):
        load_vision(tmp_path)


def test_images_that_cannot_be_read_are_refused(vision: Vision, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got no image"):
        read_images(vision, [])
    with pytest.raises(FileNotFoundError, match="which is not a file"):
        read_images(vision, [tmp_path / "missing.png"])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="which Pillow cannot read"):
        read_images(vision, [tmp_path / "text.png"])
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match="not readable as an array"):
        read_array(tmp_path / "text.npy")
    np.save(tmp_path / "flat.npy", np.zeros(4))
    with pytest.raises(ValueError, match=r"expected \(c, h, w\) or \(b, c, h, w\)"):
        read_images(vision, [tmp_path / "flat.npy"])
    np.save(tmp_path / "nan.npy", np.full((3, 4, 4), np.nan))
    with pytest.raises(NonFiniteError):
        read_images(vision, [tmp_path / "nan.npy"])
    np.save(tmp_path / "small.npy", np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="expected one shape"):
        read_images(vision, [tmp_path / "small.npy", picture(tmp_path / "c.png", (16, 16))])


def test_without_pillow_the_error_names_the_extra(
    vision: Vision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = picture(tmp_path / "a.png", (16, 16))
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"no Pillow; .* pip install 'mnemotrace\[plot\]'"):
        read_images(vision, [path])
