"""A CLIP's pictures and texts are read as one population of units, and what they share is found there."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnemotrace.adapters.towers import Towers, image_and_text
from mnemotrace.localisation.cells import Stimuli, cells


def clip(seed: int) -> Any:
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=small | {"vocab_size": 32, "max_position_embeddings": 8, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=small | {"image_size": 8, "patch_size": 4},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIPModel(config).eval()


def tokens(n: int) -> dict[str, Tensor]:
    ids = torch.randint(3, 32, (n, 6), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = 2
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_the_space_is_the_one_in_which_the_network_compares() -> None:
    model = clip(0)
    pixels, text = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), tokens(3)
    towers = image_and_text(model)
    with torch.no_grad():
        expected = model(pixel_values=pixels, **text)
        torch.testing.assert_close(towers(image=pixels), expected.image_embeds)
        torch.testing.assert_close(towers(text=text), expected.text_embeds)


def test_cells_of_a_two_tower_network_are_searched_in_both_towers() -> None:
    towers, twin = image_and_text(clip(0)), image_and_text(clip(1))
    pixels, text = torch.randn(24, 3, 8, 8, generator=torch.Generator().manual_seed(1)), tokens(24)
    concepts = torch.arange(24) % 3
    shown = {"image": Stimuli([{"image": pixels}], concepts), "text": Stimuli([{"text": text}], concepts)}
    found = cells(towers, shown, sites=[""], untrained=twin, shuffles=19)
    assert found.modalities == ("image", "text") and len(found.sites[""].preferred) == 12
    assert found.cells() == []  # it never learnt anything


def test_a_planted_unit_of_two_towers_is_found() -> None:
    concepts = torch.arange(40) % 4
    source = torch.Generator().manual_seed(0)
    pictures, words = (torch.randn(40, 6, generator=source) for _ in range(2))
    pictures[:, 2] += 8 * (concepts == 1)
    words[:, 5] += 8 * (concepts == 1)
    order = torch.tensor([0, 1, 5, 3, 4, 2])
    towers = Towers(nn.Identity(), {"picture": lambda net, x: net(x), "word": lambda net, x: net(x)[:, order]})
    twin = Towers(nn.Identity(), {"picture": lambda _, x: -x, "word": lambda _, x: x})
    shown = {"picture": Stimuli([{"picture": pictures}], concepts), "word": Stimuli([{"word": words}], concepts)}
    found = cells(towers, shown, sites=[""], untrained=twin)
    assert [(cell.unit, cell.concept) for cell in found.cells()] == [(2, 1)]


def test_a_batch_goes_to_one_tower_by_name() -> None:
    towers = Towers(nn.Identity(), {"a": lambda net, x: net(x)})
    assert torch.equal(towers(a=torch.ones(2, 3)), torch.ones(2, 3))
    for given in ({}, {"b": 1}, {"a": 1, "b": 1}):
        with pytest.raises(ValueError, match="expected one of a, one at a time"):
            towers(**given)
    with pytest.raises(TypeError, match="Linear without get_image_features"):
        image_and_text(nn.Linear(2, 2))
