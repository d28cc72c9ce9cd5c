r"""Keys and outputs of facts: what an MLP's last map reads, and what it gives, at the subject's last token.

.. math:: k = \sum_j w_j \, k_j, \qquad \sum_j w_j = 1,

over the bare prompt (j = 0) and the prompt after each context. ROME weighs all alike; MEMIT gives the bare prompt one
half. Prompts are cut behind the subject, for nothing later reaches it, and the pass ends at the deepest layer wanted.

Reference: Meng et al. 2022, equation 3. Cost: one forward pass up to that layer over `n (contexts + 1)` rows.
"""

import re
from collections.abc import Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.decoder import Decoder, decoder, watched_outputs
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.hooks import evaluating, record, stop_at
from mnemotrace.adapters.linear import sites
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.site import Site
from mnemotrace.modification.contexts import Contexts, Lookup, in_contexts, place_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

At = Literal["mlp", "block"]


def keys(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layers: int | Iterable[int],
    contexts: Contexts = (),
    lookup: Lookup = "subject",
    bare_weight: float | None = None,
    batch_size: int = 256,
) -> dict[int, Float[Tensor, "d_k n"]]:
    """Read the keys of facts.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model; a fast one.
        facts: whose subjects are looked up.
        layers: one or several, counted from the end when negative.
        contexts: from `contexts`; none reads the bare prompt alone.
        lookup: where a fact is looked up: at the last token of its `subject`, or of its `prompt`.
        bare_weight: of the bare prompt, in [0, 1], the rest shared by the contexts; None weighs all rows alike.
        batch_size: rows a forward pass.

    Returns:
        By layer (from 0), one column a fact, float64.

    Raises:
        ValueError: no fact, no layer or no such one, a layer of experts, or a weight out of range; or as `tokens_of`.
        SelectionError: the map is quantised or computed by a parametrisation.
        NonFiniteError: a key is NaN or infinite.
    """
    places = decoder(model)
    wanted = sorted({places.checked(layer) for layer in (layers if isinstance(layers, Iterable) else [layers])})
    if not wanted:
        raise ValueError("got no layer; expected at least one")
    chosen = {layer: site_of(model, layer) for layer in wanted}
    read: dict[str, Tensor] = {}
    found: dict[int, list[Tensor]] = {layer: [] for layer in wanted}
    deepest = model.get_submodule(places.down_of(wanted[-1]))
    listening = {site.name: site for site in chosen.values()}
    rows = _rows(tokenizer, facts, contexts, lookup)
    for inputs, index, last in _passes(model, rows, batch_size):
        with evaluating(model), record(model, listening, lambda site, x, *_: read.update({site.name: x})):
            with stop_at(deepest):
                model(**inputs)
            for layer, site in chosen.items():
                found[layer].append(read[site.name][index, last].double())
    weights = row_weights(len(contexts), bare_weight)
    means = {layer: _mean(torch.cat(parts), weights) for layer, parts in found.items()}
    for layer, mean in means.items():
        require_finite(mean, f"the keys of layer {layer}; look for NaN in the weights before it")
    return means


def outputs(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layer: int,
    at: At = "mlp",
    contexts: Contexts = (),
    lookup: Lookup = "subject",
    bare_weight: float | None = None,
    batch_size: int = 256,
) -> Float[Tensor, "d n"]:
    """Read what the MLP gives, or the hidden states after the block, at the subjects' last tokens; as `keys`."""
    places = decoder(model)
    layer = places.checked(layer)
    module = model.get_submodule(places.mlp[layer]) if at == "mlp" else places.block(layer)
    after = places.block(layer + 1) if layer + 1 < places.layers else None
    found: list[Tensor] = []
    rows = _rows(tokenizer, facts, contexts, lookup)
    for inputs, index, last in _passes(model, rows, batch_size):
        with evaluating(model), watched_outputs(module) as seen:
            with stop_at(after):
                model(**inputs)
            found.append(seen[-1][index, last].double())
    mean = _mean(torch.cat(found), row_weights(len(contexts), bare_weight))
    require_finite(mean, f"the outputs of layer {layer}; look for NaN in the weights before it")
    return mean


def site_of(model: nn.Module, layer: int) -> Site:
    """Return the site of an MLP's last linear map.

    Raises:
        ValueError: no such layer, or a layer of experts.
        SelectionError: the map is quantised or computed by a parametrisation.
    """
    places: Decoder = decoder(model)
    return next(iter(sites(model, re.escape(places.down_of(layer))).values()))


def row_weights(contexts: int, bare_weight: float | None = None) -> list[float]:
    """Return the weights of the bare prompt and of each context; they sum to 1.

    Raises:
        ValueError: a weight out of range.
    """
    if bare_weight is not None and not 0 <= bare_weight <= 1:
        raise ValueError(f"got bare_weight={bare_weight}; expected a share in [0, 1], or None for equal weights")
    if not contexts:
        return [1.0]
    bare = 1 / (contexts + 1) if bare_weight is None else bare_weight
    return [bare, *[(1 - bare) / contexts] * contexts]


def _mean(rows: Tensor, weights: list[float]) -> Tensor:
    grouped = rows.view(-1, len(weights), rows.shape[-1])
    return torch.einsum("ncd,c->dn", grouped, grouped.new_tensor(weights))


def _rows(
    tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact], contexts: Contexts, lookup: Lookup
) -> list[tuple[int, ...]]:
    """Return each fact's tokens up to where it is looked up, alone and after each context."""
    require_facts(facts)
    read = [tokens for fact in facts for tokens in in_contexts(tokenizer, fact, contexts)]
    return [tokens.ids[: place_of(tokens, lookup) + 1] for tokens in read]


def _passes(
    model: nn.Module, rows: Sequence[Sequence[int]], batch_size: int
) -> Generator[tuple[dict[str, Tensor], Tensor, Tensor], None, None]:
    """Yield what to call the model with, and each row's index and last position; padded behind, where it is unseen."""
    if batch_size < 1:
        raise ValueError(f"got batch_size={batch_size}; expected at least 1 row a forward pass")
    device = next(model.parameters()).device
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in part], batch_first=True).to(device)
        last = torch.tensor([len(row) - 1 for row in part], device=device)
        index = torch.arange(len(part), device=device)
        mask = (torch.arange(ids.shape[1], device=device) <= last[:, None]).long()
        yield {"input_ids": ids, "attention_mask": mask}, index, last


def require_facts(facts: Any) -> None:
    """Raise unless these are facts, at least one.

    Raises:
        ValueError: none.
        TypeError: something else than facts.
    """
    if isinstance(facts, Fact):
        raise TypeError(f"got one fact, {facts.prompt!r}; expected several; put it in a list")
    if len(facts) == 0:
        raise ValueError("got no fact; expected at least one; the file or the filter may be empty")
    wrong = next((fact for fact in facts if not isinstance(fact, Fact)), None)
    if wrong is not None:
        raise TypeError(f"got {wrong!r} among the facts; expected Fact(prompt=..., subject=..., target=...)")
