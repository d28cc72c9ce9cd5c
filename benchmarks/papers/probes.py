"""Sparse probes and concept algebra: planted first (P1, P3 to P5), then digits, people of Funes, and words of MiniLM.

P1: 8 of 512 standard normal units with weights of 1.5, n 2000, penalty 0.15 of the largest. Liblinear penalises the
intercept, we do not; it is given a column of 1000 for it, and its weights are then judged by our objective, with the
intercept that it gave and with the best one. P5: vectors of 20 people times 10 places, person + place + noise, against
as many random vectors. Real ones: the second hidden layer of a digit network; at which block of Funes a town can be
read from a person whose town no probe has seen; capitals, genders and plurals in all-MiniLM-L6-v2.
"""

from itertools import combinations

import torch
from torch import Tensor

import mnemotrace as mt
from benchmarks.figures import OUT, REPOSITORY, Figure, Skipped, main
from benchmarks.papers.recalled import load, trained
from benchmarks.real_models.minilm import encoder
from mnemotrace.adapters.hf import Example, batches, embed, load_model
from mnemotrace.localisation.algebra import Analogies, additivity, analogies, mean_difference
from mnemotrace.localisation.atoms import sums
from mnemotrace.localisation.fista import fista
from mnemotrace.localisation.logistic import gap, lambda_max, objective
from mnemotrace.localisation.probe import Probe, probe
from mnemotrace.localisation.probe_solvers import BACKENDS, choose, solve
from mnemotrace.localisation.stability import false_units
from mnemotrace.stats.responses import responses

PICTURE = REPOSITORY / "docs" / "images" / "probe_path.png"
CAPITALS = """Paris France, Rome Italy, Madrid Spain, Berlin Germany, London England, Athens Greece, Lisbon Portugal,
Vienna Austria, Warsaw Poland, Moscow Russia, Tokyo Japan, Beijing China, Cairo Egypt, Oslo Norway, Stockholm Sweden,
Helsinki Finland, Dublin Ireland, Budapest Hungary, Prague Czechia, Ottawa Canada, Havana Cuba, Lima Peru, Nairobi
Kenya, Bangkok Thailand, Hanoi Vietnam, Tehran Iran, Baghdad Iraq, Ankara Turkey, Kiev Ukraine, Bucharest Romania"""
GENDERS = """king queen, man woman, boy girl, father mother, son daughter, brother sister, uncle aunt, husband wife,
actor actress, prince princess, nephew niece, grandfather grandmother, waiter waitress, hero heroine, lord lady,
wizard witch, duke duchess, monk nun, groom bride, gentleman gentlewoman"""
PLURALS = """cat cats, dog dogs, car cars, tree trees, house houses, book books, child children, mouse mice, foot feet,
tooth teeth, bird birds, river rivers, city cities, baby babies, apple apples, table tables, horse horses, king kings,
stone stones, boat boats, letter letters, window windows, knife knives, wolf wolves"""


def planted(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return standard normal rows, the eight units that make the labels, and labels of 0 and 1."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=source, dtype=torch.float64)
    units = torch.randperm(d, generator=source)[:8]
    w = torch.zeros(d, dtype=torch.float64)
    w[units] = torch.tensor([1.5, -1.5] * 4, dtype=torch.float64)
    y = (torch.rand(n, generator=source, dtype=torch.float64) < torch.sigmoid(x @ w + 0.5)).long()
    return x, units, y


def installed() -> list[str]:
    """List the backends that can be imported."""
    found: list[str] = []
    for name in BACKENDS:
        try:
            found.append(choose(name))
        except ImportError:
            continue
    return found


def solver_figures(quick: bool) -> list[Figure]:
    """P1: planted units, and one objective for all solvers."""
    n, d = (400, 64) if quick else (2000, 512)
    x, units, y = planted(n, d)
    signs = 2.0 * y.double() - 1
    penalty = 0.15 * lambda_max(x, signs)
    w, b = fista(x, signs, penalty)
    ours = objective(x, signs, w, b, penalty=penalty)
    figures = [
        Figure("P1 planted units in the support", int((w[units] != 0).sum()), ">= 8", "of 8"),
        Figure("P1 units in the support", int((w != 0).sum()), "", f"objective {ours:.10f}"),
        Figure("P1 duality gap of ours", gap(x, signs, w, b, penalty=penalty), "<= 1e-06"),
    ]
    many = []
    for seed in range(1, 3 if quick else 11):
        x2, units2, y2 = planted(n, d, seed)
        other = fista(x2, 2.0 * y2.double() - 1, 0.15 * lambda_max(x2, 2.0 * y2.double() - 1))[0]
        many.append((int((other[units2] != 0).sum()), int((other != 0).sum())))
    figures.append(
        Figure("P1 planted units found, worst of other seeds", min(hit for hit, _ in many), "",
               "units in the supports: " + ", ".join(str(used) for _, used in many))
    )  # fmt: skip
    for name in installed():
        w2, b2 = solve(x, signs, penalty, backend=name)
        away = abs(objective(x, signs, w2, b2, penalty=penalty) - ours)
        left = int(((w2 != 0) != (w != 0)).sum())
        figures.append(Figure(f"P1 objective of {name} less ours", away, "<= 1e-06", f"{left} units differ"))
    return [*figures, *_liblinear(x, signs, penalty, ours)]


def _liblinear(x: Tensor, y: Tensor, penalty: float, ours: float) -> list[Figure]:
    """Say what the penalty of its intercept costs liblinear as it is, by our objective."""
    import warnings

    from sklearn.linear_model import LogisticRegression

    figures = []
    for scale in (1.0, 1000.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(penalty="l1", solver="liblinear", C=1 / (penalty * len(y)), tol=1e-8,
                                       max_iter=1000, intercept_scaling=scale).fit(x.numpy(), y.numpy())  # fmt: skip
        w, b = torch.from_numpy(model.coef_[0].copy()), float(model.intercept_[0])
        found = objective(x, y, w, b, penalty=penalty) - ours
        figures.append(Figure(f"P1 liblinear, own intercept, column of {scale:g}", found, "", "above our objective"))
    return figures


def told(name: str, found: Probe, *, gate: bool = False) -> list[Figure]:
    """Report a probe beside its ceiling and its controls (P4)."""
    units = found.support.sum(1).double()
    interval = f"{found.interval[0]:.3f} to {found.interval[1]:.3f}, all units {found.dense:.3f}"
    curve = ", ".join(f"{k}: {value:.3f}" for k, value in found.curve.items())
    control = sum(found.control) / len(found.control)
    capacity = sum(found.capacity) / len(found.capacity)
    return [
        Figure(f"{name}: accuracy", found.accuracy, "", f"{interval}, frequent label {found.chance:.3f}"),
        Figure(f"{name}: units used a class", float(units.mean()), "", f"of {found.support.shape[1]}; {curve}"),
        Figure(f"{'P4 ' if gate else ''}{name}: selectivity", found.selectivity, "",
               f"random labels {control:.3f}; on the rows they were fitted to {capacity:.3f}"),
    ]  # fmt: skip


def planted_probe(quick: bool) -> tuple[Probe, list[Figure]]:
    """P3 and P4 on planted units."""
    x, units, y = planted(*((400, 64) if quick else (2000, 512)))
    found = probe(x, y, stability=6 if quick else 50)
    eight = found.curve.get(8, float("nan"))
    often = found.frequency[0]
    others = torch.ones(len(often), dtype=torch.bool)
    others[units] = False
    note = f"{eight:.3f} with 8 units, {found.dense:.3f} with all"
    return found, [
        Figure("P3 all units less 8 units, accuracy", found.dense - eight, "<= 0.01", note),
        *told("planted", found, gate=True),
        Figure("planted: least frequency of a planted unit", float(often[units].min()), "",
               f"largest of another {float(often[others].max()):.2f}; others at 0.9 or more: "
               f"{int((often[others] >= 0.9).sum())}, bound {false_units(often):.1f}"),
    ]  # fmt: skip


def compositional(people: int, places: int, *, sums_too: bool, noise: float) -> tuple[Tensor, Tensor]:
    """Return a vector a person and place, and analogies over rectangles of them."""
    source = torch.Generator().manual_seed(0)
    first, second = torch.randn(people, 1, 64, generator=source), torch.randn(1, places, 64, generator=source)
    vectors = torch.randn(people, places, 64, generator=source) * (noise if sums_too else 1.0)
    vectors = vectors + first + second if sums_too else vectors
    at = torch.arange(people * places).view(people, places)
    corners = torch.stack([torch.randint(m, (2000,), generator=source) for m in (people, people, places, places)])
    corners = corners[:, (corners[0] != corners[1]) & (corners[2] != corners[3])]
    i, m, j, k = corners
    return vectors.flatten(0, 1), torch.stack([at[i, k], at[i, j], at[m, j], at[m, k]], 1)


def answered(name: str, found: Analogies, *gates: str) -> list[Figure]:
    """Report analogies beside their baselines."""
    plain = "; ".join(f"{which} {found.accuracy[which]:.3f}" for which in found.accuracy if which != "a - b + c")
    interval = f"{found.interval[0]:.3f} to {found.interval[1]:.3f}, {len(found.rank)} questions"
    top, gain = gates or ("", "")
    kept = ", ".join(f"{which} {value:.3f}" for which, value in found.kept_in.items())
    return [
        Figure(f"{name}: a - b + c", found.accuracy["a - b + c"], top, f"{interval}; {plain}"),
        Figure(f"{name}: better than the nearest to c by", found.gain, gain, f"an input is nearest {found.echo:.3f}"),
        Figure(f"{name}: with the inputs left in", found.kept_in["a - b + c"], "", kept),
    ]


def planted_algebra() -> list[Figure]:
    """P5: planted sums and the control that has none."""
    figures = answered(
        "P5 planted sums", analogies(*compositional(20, 10, sums_too=True, noise=0.3)), ">= 0.95", ">= 0.3"
    )
    none = analogies(*compositional(20, 10, sums_too=False, noise=1.0))
    return [*figures, *answered("P5 no sums", none, "", "<= 0.02")]


def digit_figures(quick: bool) -> list[Figure]:
    """Probe the second hidden layer of a digit network, and write its digits as sums of neurons."""
    try:
        data = load(quick)
    except Skipped as reason:
        return [Figure("digits", float("nan"), "", str(reason))]
    model = trained(data, "max", epochs=1 if quick else 2)
    images, labels = (part[: 300 if quick else 2000] for part in data.test)
    x = responses(model, images.split(250), ["relu_fc2"])["relu_fc2"]
    few = {"penalties": 6, "stability": 0} if quick else {"stability": 20}
    figures = told("digits, fc2", probe(x, labels, **few))
    mixed = x @ torch.linalg.qr(torch.randn(256, 256, generator=torch.Generator().manual_seed(0)))[0]
    figures += told("digits, fc2 rotated", probe(mixed, labels, **few))
    half = len(x) // 2
    first, second = mean_difference(x[:half], labels[:half]), mean_difference(x[half:], labels[half:])
    for k in (2,) if quick else (2, 8, 32):
        found = sums(first, torch.eye(256), k=k, held_out=second)
        assert found.held_out is not None and found.ceiling is not None
        note = f"rotated {float(found.rotated.mean()):.3f}, ceiling {float(found.ceiling.mean()):.3f}"
        figures.append(Figure(f"digits: a class from {k} neurons, held out", float(found.held_out.mean()), "", note))
    return figures


def funes_figures(quick: bool) -> list[Figure]:
    """Read the town of a person from the last token of the name, and of the prompt; people are never on both sides."""
    funes = mt.funes()
    facts = [fact for fact in funes.world.facts if fact.relation == "town"]
    count = torch.tensor([sum(other.answer == town for other in facts) for town in (fact.answer for fact in facts)])
    towns = [
        town for town in dict.fromkeys(f.answer for f in facts) if count[[f.answer for f in facts].index(town)] >= 15
    ]
    facts = [fact for fact in facts if fact.answer in (towns[:3] if quick else towns)]
    texts = {
        "name": [f"{fact.subject}" for fact in facts],
        "prompt": [prompt for fact in facts for prompt in fact.phrasings[: 1 if quick else 3]],
    }
    sites = [f"transformer.h.{block}" for block in ((5,) if quick else (0, 2, 4, 5))]
    figures: list[Figure] = []
    for where, lines in texts.items():
        each = len(lines) // len(facts)
        y = torch.tensor([towns.index(fact.answer) for fact in facts]).repeat_interleave(each)
        groups = [fact.subject for fact in facts for _ in range(each)]
        ready = batches(funes.tokenizer, [Example(line) for line in lines], batch_size=64)
        x = responses(funes.model, ready, sites, reduce="last")
        for site in sites:
            few = {"penalties": 6} if quick else {}
            figures += told(
                f"Funes, town at the {where}'s end, {site[12:]}", probe(x[site], y, groups=groups, stability=0, **few)
            )
    return figures


def word_figures(quick: bool) -> list[Figure]:
    """Ask analogies of the embeddings of single words, centred; every ordered pair of pairs."""
    try:
        model, tokenizer = load_model(encoder())
    except Skipped as reason:
        return [Figure("words", float("nan"), "", str(reason))]
    lists = {"capitals": CAPITALS, "genders": GENDERS, "plurals": PLURALS}
    pairs = {name: [tuple(pair.split()) for pair in text.replace("\n", " ").split(",")] for name, text in lists.items()}
    words = list(dict.fromkeys(word for some in pairs.values() for pair in some for word in pair))
    vectors = embed(model, batches(tokenizer, [Example(word) for word in words], batch_size=64)).double()
    vectors = vectors - vectors.mean(0)
    figures: list[Figure] = []
    for name, some in pairs.items():
        at = [(words.index(one), words.index(other)) for one, other in (some[:6] if quick else some)]
        asked = [(p[0], p[1], q[1], q[0]) for p in at for q in at if len({*p, *q}) == 4]
        figures += answered(f"words, {name}", analogies(vectors, torch.tensor(asked)))
        offsets = torch.stack([vectors[one] - vectors[other] for one, other in at])
        cosine = torch.nn.functional.cosine_similarity
        apart = [float(cosine(offsets[i], offsets[j], dim=0)) for i, j in combinations(range(len(at)), 2)]
        second = (offsets.sum(0) - offsets) / (len(at) - 1)  # what the other pairs differ by
        first, whole = (torch.stack([vectors[pair[side]] for pair in at]) for side in (1, 0))
        error, none = additivity(whole, first, second), additivity(whole, first.roll(1, 0), second)
        figures += [
            Figure(f"words, {name}: mean cosine of two offsets", sum(apart) / len(apart)),
            Figure(
                f"words, {name}: additivity error",
                float(error.mean()),
                "",
                f"with another word {float(none.mean()):.3f}",
            ),
        ]
    return figures


def draw(found: Probe, units: Tensor) -> None:
    """Draw the curve over k beside its levels, and how often each unit is chosen on half the rows."""
    from matplotlib import pyplot as plt
    from PIL import Image

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(list(found.curve), list(found.curve.values()), "o-", color="#0f6b7a", label="k strongest units")
    for value, label, colour in ((found.dense, "all 512 units", "#a85a08"),
                                 (sum(found.control) / 5, "random labels", "#b0243d")):  # fmt: skip
        left.axhline(value, color=colour, linestyle="--", label=label)
    left.axvline(8, color="#cfcbc2", zorder=0)
    left.set(xscale="log", xlabel="units", ylabel="accuracy on unseen rows", title="How few units are enough",
             xticks=list(found.curve), xticklabels=list(map(str, found.curve)))  # fmt: skip
    left.minorticks_off()
    left.legend(frameon=False)
    often = found.frequency[0]
    true = torch.zeros(len(often), dtype=torch.bool)
    true[units] = True
    right.vlines((~true).nonzero()[:, 0], 0, often[~true], color="#857f76", linewidth=0.8, label="the other 504")
    right.vlines(units, 0, often[true], color="#0f6b7a", linewidth=2, label="the 8 that make the labels")
    right.plot(units, often[units], "o", color="#0f6b7a", markersize=4)
    right.set(xlabel="unit", ylabel="chosen, share of 50 halves", title="Which units come back", ylim=(0, 1.25))
    right.legend(frameon=False, loc="upper right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    OUT.mkdir(parents=True, exist_ok=True)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(OUT / "probe_path.png", dpi=144)
    plt.close(figure)
    Image.open(OUT / "probe_path.png").convert("RGB").quantize(256).save(PICTURE, optimize=True)


def measure(quick: bool) -> list[Figure]:
    """Measure planted and real ones; draw the planted probe."""
    torch.set_num_threads(1)
    figures = solver_figures(quick)
    found, more = planted_probe(quick)
    if not quick:
        draw(found, planted(2000, 512)[1])
    figures += [*more, *planted_algebra()]
    return [*figures, *digit_figures(quick), *funes_figures(quick), *word_figures(quick)]


if __name__ == "__main__":
    main(measure, __doc__)
