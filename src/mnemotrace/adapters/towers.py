"""Networks with several entrances that lead to one population of units, such as CLIP's pictures and texts.

A site must run whatever is shown. Where each modality has a tower of its own, only what the towers share does, and that
is often no module but the space that both project into. `Towers` makes this space the output of one network: site "".
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mnemotrace.adapters.outputs import tensor_of

Entrance = Callable[[Any, Any], Any]


class Towers(nn.Module):
    """A network and its entrances; `towers(image=batch)` gives what the entrance `image` makes of the batch.

    Attributes:
        model: the network, the same object.
        entrances: by modality, `entrance(model, batch)` returns `(b, units)`.
    """

    def __init__(self, model: nn.Module, entrances: Mapping[str, Entrance]) -> None:
        super().__init__()
        self.model = model
        self.entrances = dict(entrances)

    def forward(self, **given: Any) -> Tensor:
        """Return the shared units' values for a batch of one modality.

        Args:
            **given: modality and batch, exactly one.

        Raises:
            ValueError: none, several, or an unknown one.
        """
        if len(given) != 1 or not given.keys() <= self.entrances.keys():
            raise ValueError(f"got {sorted(given)}; expected one of {', '.join(self.entrances)}, one at a time")
        ((name, batch),) = given.items()
        return tensor_of(self.entrances[name](self.model, batch), name)


def image_and_text(model: nn.Module) -> Towers:
    """Read the space that pictures and texts share, of a Hugging Face network such as CLIP or SigLIP.

    Embeddings have length one, as when pictures and texts are compared.

    Args:
        model: with `get_image_features(pixel_values=)` and `get_text_features(input_ids=, attention_mask=)`.

    Returns:
        Towers with the entrances `image` (pixel values) and `text` (a mapping from a tokenizer).

    Raises:
        TypeError: the network has none of these.
    """
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise TypeError(
            f"got {type(model).__name__} without get_image_features and get_text_features; expected a network of two "
            "towers; give Towers(model, {name: function}) your own"
        )
    return Towers(
        model,
        {
            "image": lambda net, pixels: _embedding(net.get_image_features(pixel_values=pixels)),
            "text": lambda net, tokens: _embedding(net.get_text_features(**tokens)),
        },
    )


def _embedding(output: Any) -> Tensor:
    """Take the projected embedding: a tensor in older transformers, a field of an output in newer."""
    found = output if isinstance(output, Tensor) else output.pooler_output
    return torch.nn.functional.normalize(found, dim=-1)
