"""Assemblies found in real networks: the digits of MNIST beside their confusions, Funes's people beside their towns."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import mnemotrace as mt
from benchmarks.figures import Figure
from benchmarks.papers import mnist
from mnemotrace.adapters.twins import untrained_twin
from mnemotrace.memories.assemblies import Assemblies
from mnemotrace.memories.overlapping import standardised
from mnemotrace.organisms.funes import Funes
from mnemotrace.stats.responses import responses

Said = Sequence[tuple[str, str]]


def generator(seed: int) -> torch.Generator:
    """Seed a generator."""
    return torch.Generator().manual_seed(seed)


def upper(values: Tensor) -> Tensor:
    """Give the entries above the diagonal."""
    rows, columns = torch.triu_indices(len(values), len(values), 1)
    return values[rows, columns]


def rank_correlation(a: Tensor, b: Tensor, permutations: int = 999) -> tuple[float, float]:
    """Spearman over pairs of concepts, and the share of permutations of the concepts that reach it (Mantel)."""
    from scipy.stats import rankdata

    def ranks(values: Tensor) -> Tensor:
        return torch.from_numpy(rankdata(upper(values).numpy()))

    first, draw = ranks(a), generator(0)
    orders = [torch.arange(len(b)), *(torch.randperm(len(b), generator=draw) for _ in range(permutations))]
    found = [float(torch.corrcoef(torch.stack([first, ranks(b[order][:, order])]))[0, 1]) for order in orders]
    return found[0], sum(one >= found[0] for one in found) / len(found)


def confusions(model: nn.Module, data: mnist.Data) -> Tensor:
    """Probability of each digit where another is shown, both ways."""
    with torch.no_grad():
        given = model(data[0]).softmax(1)
    by = torch.stack([given[data[1] == digit].mean(0) for digit in range(10)])
    return by + by.T


def digits(quick: bool) -> list[Figure]:
    """Find the assemblies of digits, and what their overlaps go with."""
    train, _, test = mnist.load(quick)
    model = mnist.perceptron(train, epochs=1 if quick else 3)
    few = 2000 if quick else 10000
    images, labels = train[0][:few], train[1][:few]
    shuffled = labels[torch.randperm(few, generator=generator(1))]
    confused = confusions(model, test)
    prototypes = torch.corrcoef(torch.stack([images[labels == digit].mean(0) for digit in range(10)]))
    figures: list[Figure] = []
    for title, net in {"": model, ", untrained": untrained_twin(model, generator=generator(0))}.items():
        seen, asked = (responses(net, part.split(1000), ["relu1", "relu2"]) for part in (images, test[0]))
        for site in ("relu1", "relu2"):
            size = seen[site].shape[1] // 10
            found = Assemblies.from_activations(seen[site], labels, size=size)
            control = Assemblies.from_activations(seen[site], shuffled, size=size)
            both = [rank_correlation(one.overlaps, confused) for one in (found, control)]
            alike = rank_correlation(found.overlaps, prototypes)
            note = f"p {both[0][1]:.3f}; shuffled labels {both[1][0]:.2f}; with likeness of mean images {alike[0]:.2f}"
            figures.append(Figure(f"MNIST {site}{title}: overlaps with confusions, Spearman", both[0][0], "", note))
            figures += named(f"MNIST {site}{title}", found, control, asked[site], test[1])
            if not title:
                learnt = Assemblies.from_activations(seen[site], labels, size=size, learn="responses")
                figures += named(f"MNIST {site}, couplings from responses", learnt, None, asked[site], test[1])
    return figures


def named(title: str, found: Assemblies, control: Assemblies | None, rows: Tensor, labels: Tensor) -> list[Figure]:
    """Complete from the most responsive units of a test image: is it the digit's assembly that comes up?"""
    order = standardised(rows).argsort(dim=1, descending=True, stable=True)[:1000, : found.size]
    cue = torch.zeros(len(order), found.d).scatter(1, order, 1.0)
    labels = labels[: len(order)]

    def right(one: Assemblies, state: Tensor) -> float:
        return float((one.share(state).argmax(1) == labels).float().mean())

    after = found.complete(cue)
    held = found.complete(found.members).overlap.diagonal().mean()
    note = f"before completion {right(found, cue):.3f}; a whole assembly keeps {float(held):.2f} of itself"
    note += "" if control is None else f"; shuffled labels {right(control, control.complete(cue).state):.3f}"
    return [Figure(f"{title}: test image brings its digit up", right(found, after.state), "", note)]


def read(funes: Funes, sites: Sequence[str], said: Said, *, at_word: bool) -> dict[str, Tensor]:
    """Read MLP units at the last word of the subject, or at the last word of the sentence."""
    parts: list[dict[str, Tensor]] = []
    for start in range(0, len(said), 256):
        some = said[start : start + 256]
        batch = dict(funes.tokenizer([text for _, text in some], return_tensors="pt", padding=True))
        last = batch["attention_mask"].sum(1) - 1
        words = torch.tensor([funes.tokenizer.convert_tokens_to_ids(who.split()[-1]) for who, _ in some])
        place = (batch["input_ids"] == words[:, None]).long().argmax(1) if at_word else last
        mask = torch.arange(batch["input_ids"].shape[1]) == place[:, None]
        parts.append(responses(funes.model, [batch], sites, reduce="mean", mask=lambda _, m=mask: m))
    return {site: torch.cat([part[site] for part in parts]) for site in sites}


def people(quick: bool) -> list[Figure]:
    """Funes: does the assembly of a person's town come up with the person's, more than a stranger's?"""
    funes = mt.funes()
    world, count = funes.world, 20 if quick else 200
    sites = [f"transformer.h.{i}.mlp.act" for i in range(6)]
    towns, chosen = list(world.countries), random.Random(0).sample(world.subjects, count)
    own = torch.tensor([towns.index(world.fact(one, "town").answer) for one in chosen])
    other = [relation for relation in world.relations if relation != "town"]
    about = [(one, text) for one in chosen for relation in other for text in world.fact(one, relation).phrasings]
    asking = [(one, text) for one in chosen for text in world.fact(one, "town").phrasings]
    lying = [(fact.subject, text) for fact in world.geography for text in fact.phrasings]
    place = torch.tensor([count + towns.index(who) for who, _ in lying])
    there, figures = read(funes, sites, lying, at_word=True), list[Figure]()
    for title, said in {"named": about, "asked where": asking}.items():
        seen = read(funes, sites, said, at_word=title == "named")
        who = torch.tensor([chosen.index(one) for one, _ in said])
        for site in sites:
            rows = torch.cat([standardised(seen[site]), standardised(there[site])])
            found = Assemblies.from_activations(rows, torch.cat([who, place]), size=77)
            name = f"Funes {title}, layer {site.split('.')[2]}"
            figures.append(above_strangers(name, found, own))
    return figures


def above_strangers(name: str, found: Assemblies, own: Tensor) -> Figure:
    """Set a person's town among all towns, by overlap and by association, beside the next person's town."""
    count = len(own)
    share = found.associate(found.names[:count]).overlap[:, count:]
    overlaps = found.overlaps[:count, count:]
    (mine, error), (up, up_error) = place_among(overlaps, own), place_among(share, own)
    next_one, _ = place_among(overlaps, own.roll(1))
    note = (
        f"+- {error:.2f}, chance .50, the next person's town {next_one:.2f}; by association {up:.2f} +- {up_error:.2f}"
    )
    return Figure(f"{name}: strangers' towns below the own", mine, "", note)


def place_among(values: Tensor, own: Tensor) -> tuple[float, float]:
    """Tell how many of the other towns lie below the own, ties half, and half of a 95 % interval over people."""
    mine = values.gather(1, own[:, None])
    below = ((values < mine).double().sum(1) + 0.5 * ((values == mine).double().sum(1) - 1)) / (values.shape[1] - 1)
    return float(below.mean()), 1.96 * float(below.std()) / len(below) ** 0.5
