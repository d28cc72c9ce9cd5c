"""What ROME, MEMIT and AlphaEdit refuse before anything is found, and how keys in contexts enter a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.core.errors import NonFiniteError, SelectionError
from mnemotrace.modification.spread import checked_sites
from mnemotrace.modification.values import values
from tests.adapters.layouts import build
from tests.adapters.words import word_tokenizer
from tests.core.zoo import bits, same_bits

TOKENIZER = word_tokenizer()
SITE = "transformer.h.1.mlp.c_proj"
FACTS = [mt.Fact("the cat sat on a", "cat", target="mat"), mt.Fact("a dog ran far", "dog", target="home")]
METHODS = pytest.mark.parametrize("method", ["rome", "memit", "alphaedit"])
CONTEXTS = ((0, 5, 6, 9), (0, 8))


def write(method: str, model: nn.Module, statistics: mt.Statistics, *, layer: Any = 1, **options: Any) -> mt.Edit:
    """One call for all three."""
    where = {"layer": layer} if method == "rome" else {"layers": [layer]}
    options = {"facts": FACTS, "tokenizer": TOKENIZER, "contexts": (), "steps": 2} | where | options
    return getattr(mt, method)(model, statistics=statistics, **options)


def collected(model: nn.Module, select: str = "mlp.c_proj") -> mt.Statistics:
    """Second moments at MLPs' last maps, without a word of whose they are."""
    ids = torch.randint(4, 17, (40, 10), generator=torch.Generator().manual_seed(0))
    found = mt.collect(model, [{"input_ids": ids}], sites=mt.sites(model, [select]), dtype=torch.float64)
    return mt.Statistics(found.moments, found.sites, {})


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """A GPT-2; tests leave its bits alone."""
    return build("GPT2")


@pytest.fixture(scope="module")
def statistics(model: nn.Module) -> mt.Statistics:
    """Of the model."""
    return collected(model)


def test_the_bare_prompt_has_half_the_weight_in_a_batch(model: nn.Module, statistics: mt.Statistics) -> None:
    """Oracle: the dense formula, with keys from a plain pass a row."""

    def key(text: str, start: tuple[int, ...]) -> Tensor:
        read: list[Tensor] = []
        handle = model.get_submodule(SITE).register_forward_pre_hook(lambda _, args: read.append(args[0][0, -1]))
        with torch.no_grad():
            model(input_ids=torch.tensor([[*start, *map(TOKENIZER.convert_tokens_to_ids, text.split())]]))
        handle.remove()
        return read[0].double()

    columns = [key(t, (0,)) / 2 + sum(key(f". {t}", c) for c in CONTEXTS) / 4 for t in ("the cat", "a dog")]
    K = torch.stack(columns, 1)
    found = values(model, TOKENIZER, FACTS, layer=1, at="block", contexts=CONTEXTS, steps=3)
    edit = write("memit", model, statistics, contexts=CONTEXTS, found=found, weight=0.5)
    system = 0.5 * len(K) * statistics[SITE].mean(ridge=1e-4) + K @ K.T
    wanted = torch.linalg.solve(system, K @ found.deltas.T).T
    assert (edit.changes[0].dense() - wanted).norm() <= 1e-5 * wanted.norm()


def test_sites_are_found_by_layer_from_either_end(model: nn.Module, statistics: mt.Statistics) -> None:
    assert [(layer, site.name) for layer, site in checked_sites(model, [-3, 1], statistics).items()] == [
        (0, "transformer.h.0.mlp.c_proj"),
        (1, SITE),
    ]


# ------------------------------------------------------------------------------------------------------ what is refused


def shared_weight(model: Any) -> None:
    model.transformer.h[2].mlp.c_proj.weight = model.transformer.h[1].mlp.c_proj.weight


def shared_module(model: Any) -> None:
    model.transformer.h[2].mlp.c_proj = model.transformer.h[1].mlp.c_proj


def shared_head(model: Any) -> None:
    """A map of the width of the embedding, tied to it."""
    model.transformer.h[1].mlp.c_proj.weight = model.transformer.wte.weight


@METHODS
@pytest.mark.parametrize(
    ("share", "layer", "others"),
    [
        (shared_weight, 1, r"transformer\.h\.2\.mlp\.c_proj\.weight"),
        (shared_weight, 2, r"transformer\.h\.1\.mlp\.c_proj\.weight"),
        (shared_module, 1, r"transformer\.h\.2\.mlp\.c_proj\.weight"),
        (shared_module, 2, r"transformer\.h\.2\.mlp\.c_proj\.weight"),
        (shared_head, 1, r"transformer\.wte\.weight, lm_head\.weight"),
    ],
)
def test_a_map_that_shares_its_weight_is_refused_with_the_names(
    method: str, share: Callable[[Any], None], layer: int, others: str
) -> None:
    model = build("GPT2", n_inner=64)  # as wide as the vocabulary
    share(model)
    statistics = mt.Statistics({f"transformer.h.{i}.mlp.c_proj": mt.Moments.of(torch.eye(64)) for i in (1, 2)}, {})
    before = bits(model)
    with pytest.raises(SelectionError, match=f"got layer {layer}, whose weight .* is shared with {others}; expected"):
        write(method, model, statistics, layer=layer)
    assert same_bits(bits(model), before)
    write(
        method, model, collected(model, "h.0.mlp.c_proj"), layer=0
    )  # a tied head and a tied layer elsewhere are no hindrance


@METHODS
@pytest.mark.parametrize("layer", [1.0, "1", None])
def test_a_layer_that_is_no_whole_number_is_refused(
    model: nn.Module, statistics: mt.Statistics, method: str, layer: Any
) -> None:
    with pytest.raises(TypeError, match=f"got layer {layer!r}; expected a whole number, 0 to 2"):
        write(method, model, statistics, layer=layer)


@METHODS
@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_does_not_exist_is_refused(
    model: nn.Module, statistics: mt.Statistics, method: str, layer: int
) -> None:
    with pytest.raises(ValueError, match=f"got layer {layer} of a GPT2LMHeadModel with 3 layers; expected 0 to 2"):
        write(method, model, statistics, layer=layer)


@METHODS
def test_statistics_that_do_not_fit_are_refused(model: nn.Module, statistics: mt.Statistics, method: str) -> None:
    bad = torch.full((128, 128), float("nan"))
    for moments, error, message in (
        (mt.Moments(3, torch.zeros(128), second=bad), NonFiniteError, "non-finite of 16384 entries in the second mom"),
        (mt.Moments.of(torch.eye(9)), ValueError, f"got statistics of width 9 at {SITE}; expected 128; collect again"),
    ):
        with pytest.raises(error, match=message):
            write(method, model, mt.Statistics({SITE: moments}, statistics.sites))
    without = mt.Statistics({"another": statistics[SITE]}, {})
    with pytest.raises(
        ValueError, match=f"got statistics without {SITE}; expected the maps to be edited; collect with"
    ):
        write(method, model, without)


@METHODS
def test_facts_that_cannot_be_asked_are_refused(model: nn.Module, statistics: mt.Statistics, method: str) -> None:
    from tokenizers import normalizers

    class Slow:
        is_fast = False

    dropping = word_tokenizer()
    dropping.backend_tokenizer.normalizer = normalizers.Replace("zero", "")
    unsaid = mt.Fact("the cat sat", "cat", target="zero")
    before = bits(model)
    for options, message in (
        ({"facts": []}, "got no fact; expected at least one"),
        (
            {"facts": [mt.Fact("the cat", "cat")]},
            "got the fact 'the cat' without a target; expected what it should say",
        ),
        ({"facts": [unsaid], "tokenizer": dropping}, "got no token for the answer 'zero' after 'the cat sat'; exp"),
        ({"tokenizer": Slow()}, "got the slow tokenizer Slow; expected a fast one, which tells the characters"),
    ):
        with pytest.raises(ValueError, match=message):
            write(method, model, statistics, **options)
    with pytest.raises(ValueError, match="got the subject 'Nobody', which is not in the prompt 'the cat'; expected it"):
        write(method, model, statistics, facts=[mt.Fact("the cat", "Nobody", target="mat")])
    assert same_bits(bits(model), before)


@METHODS
def test_a_map_of_integers_is_refused_before_values_are_found(statistics: mt.Statistics, method: str) -> None:
    model = build("GPT2")
    stored: Any = model.transformer.h[1].mlp.c_proj
    plain, bias = stored.weight.detach().clone(), stored.bias.detach().clone()
    stored.weight = None
    stored.weight = nn.Parameter((plain * 100).to(torch.int8), requires_grad=False)
    stored.forward = lambda x: x @ plain + bias
    calls: list[object] = []
    with pytest.raises(SelectionError, match=f"got '{SITE}' .*stored as torch.int8; load the model unquantised"):
        write(method, model, statistics, progress=lambda *call: calls.append(call))
    assert not calls


@METHODS
def test_weights_that_are_no_numbers_are_refused(statistics: mt.Statistics, method: str) -> None:
    model = build("GPT2")
    write(method, model, statistics)  # its parts are found while they still tell one from another
    with torch.no_grad():
        model.get_parameter(f"{SITE}.weight")[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="got .* non-finite of .* entries in "):
        write(method, model, statistics)
