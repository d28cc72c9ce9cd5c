"""Many facts at once: taken up, apart from what stays, as a frozen edit that leaves the network's bits alone."""

import copy
from dataclasses import replace

import pytest
import torch

import mnemotrace as mt
from mnemotrace.adapters.decoder import decoder
from mnemotrace.core.errors import NonFiniteError
from mnemotrace.modification import spread as spreading
from mnemotrace.modification.keys import keys, outputs
from mnemotrace.modification.spread import facts_of
from mnemotrace.modification.values import Values, values

LAYERS = (2, 3)
MAPS = [f"transformer.h.{layer}.mlp.c_proj" for layer in LAYERS]
METHODS = pytest.mark.parametrize("method", [mt.memit, mt.alphaedit], ids=["memit", "alphaedit"])


@pytest.fixture(scope="module")
def found(bench) -> Values:
    """Values of the six facts, found once."""
    return values(bench.model, bench.tokenizer, bench.facts, layer=3, at="block", lookup="prompt", steps=12)


def written(method, bench, found, **more):
    """The edit of all six facts, without contexts."""
    options = {"layers": LAYERS, "statistics": bench.statistics, "lookup": "prompt", "contexts": (), "found": found}
    return method(bench.model, bench.tokenizer, more.pop("facts", bench.facts), **(options | more))


@METHODS
def test_all_facts_are_taken_up_and_neighbours_stay_and_the_model_is_as_it_was(bench, found, method) -> None:
    edit = written(method, bench, found)
    assert bench.untouched()
    others = [
        replace(bench.facts[0], prompt=e.prompt, target=e.answer, subject=None) for e in bench.facts[0].neighbours
    ]
    assert all(map(bench.says, others))
    assert not any(map(bench.says, bench.facts))
    with mt.applied(bench.model, edit):
        assert all(map(bench.says, bench.facts))
        assert all(map(bench.says, others))
    assert bench.untouched()


@METHODS
def test_one_low_rank_change_a_layer_of_as_many_vectors_as_facts(bench, found, method) -> None:
    edit = written(method, bench, found)
    assert [change.site.name for change in edit.changes] == MAPS
    assert [change.rank for change in edit.changes] == [6, 6]
    assert edit.nbytes == 2 * 6 * (192 + 768) * 4
    assert len(str(dict(edit.manifest))) < 6 * 400 + 1500


def test_each_layer_takes_its_share_of_what_is_left(bench, found) -> None:
    edit = written(mt.memit, bench, found)
    first, second = edit.changes
    goal = found.outputs + found.deltas
    for change, left in ((first, 2), (second, 1)):
        with mt.applied(bench.model, mt.Edit((first,))) if left == 1 else torch.no_grad():
            (columns,) = keys(
                bench.model, bench.tokenizer, bench.facts, layers=1 + 1 * (left == 1) + 1, lookup="prompt"
            ).values()
            now = outputs(bench.model, bench.tokenizer, bench.facts, layer=3, at="block", lookup="prompt")
        mean = bench.statistics[change.site.name].mean(ridge=1e-4)
        residual = (goal - now) / left
        wanted = torch.linalg.solve(768 * mean + columns @ columns.T, columns @ residual.T).T
        assert (change.dense() - wanted).norm() < 1e-5 * wanted.norm()


@METHODS
def test_the_manifest_says_how_far_each_fact_came(bench, found, method) -> None:
    edit = written(method, bench, found, **({"weight": 1e-6} if method is mt.memit else {"ridge": 1e-9}))
    entries = edit.manifest["facts"]
    assert [entry["target"] for entry in entries] == [fact.target for fact in bench.facts]
    assert all(0.97 < entry["came"] < 1.03 for entry in entries)
    assert all(entry["before"] < 0.01 < entry["after"] for entry in entries)
    assert facts_of([edit]) == [mt.Fact(f.prompt, f.subject, target=f.target) for f in bench.facts]


def test_more_weight_on_the_old_writes_less(bench, found) -> None:
    edits = [written(mt.memit, bench, found, weight=weight) for weight in (0.1, 1.0, 10.0)]
    came = [sum(entry["came"] for entry in edit.manifest["facts"]) for edit in edits]
    assert came == sorted(came, reverse=True)
    assert came[2] < 0.7 * came[0]


@METHODS
def test_the_same_seed_gives_the_same_edit(bench, method) -> None:
    edits = [
        written(
            method,
            bench,
            None,
            facts=bench.facts[:1],
            steps=3,
            contexts=None,
            generator=torch.Generator().manual_seed(s),
        )
        for s in (0, 0, 1)
    ]
    rights = [edit.changes[0].right for edit in edits]
    assert torch.equal(rights[0], rights[1])
    assert not torch.equal(rights[0], rights[2])
    assert edits[0].manifest["contexts"]["count"] == 5


@METHODS
def test_an_error_half_way_leaves_the_model_as_it_was(bench, found, method, monkeypatch) -> None:
    calls: list[int] = []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return keys(*args, **kwargs)

    monkeypatch.setattr(spreading, "keys", failing)
    with pytest.raises(KeyboardInterrupt):
        written(method, bench, found)
    assert bench.untouched()


def test_facts_written_before_stay_when_they_are_named(bench) -> None:
    """Two facts of nearly the same key: the second edit takes the first one away, unless it is protected."""
    first = bench.facts[0]
    second = replace(first, prompt=first.prompt + " a", subject=first.subject, target=bench.facts[1].target)
    options = {"layers": (3,), "statistics": bench.statistics, "lookup": "prompt", "contexts": (), "energy": 0.5}
    earlier = mt.alphaedit(bench.model, bench.tokenizer, [first], **options)
    moved: list[float] = []
    with mt.applied(bench.model, earlier):
        for previous in ([earlier], []):
            # without the base in the statistics, they may be of any network of this layout
            free = replace(bench.statistics, manifest={})
            edit = mt.alphaedit(
                bench.model,
                bench.tokenizer,
                [second],
                **(options | {"statistics": free, "ridge": 1e-6}),
                previous=previous,
            )
            (key,) = keys(bench.model, bench.tokenizer, [first], layers=3, lookup="prompt").values()
            moved.append(float((edit.changes[0].dense().double() @ key).norm()))
    assert moved[0] < 0.02 * moved[1]


def test_a_saved_batch_is_the_same_batch(bench, found, tmp_path) -> None:
    edit = written(mt.memit, bench, found)
    mt.save(edit, tmp_path / "edit.safetensors")
    again = mt.load(tmp_path / "edit.safetensors")
    assert all(torch.equal(a.dense(), b.dense()) for a, b in zip(edit.changes, again.changes, strict=True))
    assert again.manifest == edit.manifest
    assert (tmp_path / "edit.safetensors").stat().st_size < edit.nbytes + 6 * 500 + 4000


@METHODS
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_loads_a_batch_and_gives_the_logits_of_the_edited_model(bench, found, method, tmp_path) -> None:
    peft = pytest.importorskip("peft")
    edit = written(method, bench, found)
    edit.to_peft(tmp_path / "adapter", bench.model)
    ids = bench.tokenizer([fact.prompt for fact in bench.facts[:2]], return_tensors="pt", padding=True)
    wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(bench.model), tmp_path / "adapter").eval()
    with torch.no_grad():
        theirs = wrapped(**ids).logits
        with mt.applied(bench.model, edit):
            ours = bench.model(**ids).logits
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


@METHODS
def test_other_layouts_are_edited_as_well(tiny_llama, method) -> None:
    from tests.adapters.words import word_tokenizer

    model, tokenizer = tiny_llama(), word_tokenizer()
    facts = [mt.Fact("the cat sat on a", "cat", target="mat"), mt.Fact("the dog ran", "dog", target="home")]
    site = mt.sites(model, ["layers.0.mlp.down_proj"])
    ids = torch.randint(4, 17, (40, 10), generator=torch.Generator().manual_seed(0))
    statistics = mt.collect(model, [{"input_ids": ids}], sites=site)
    before = {name: p.clone() for name, p in model.named_parameters()}
    edit = method(model, tokenizer, facts, layers=[0], statistics=statistics, contexts=(), steps=3)
    assert edit.changes[0].rank == 2
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


@METHODS
def test_bad_input_is_refused_before_anything_is_found(bench, found, method) -> None:
    twice = [bench.facts[0], replace(bench.facts[0], target="Morven")]
    for facts, message in (
        ([], "got no fact"),
        (twice, r"twice, with targets '\w+' and 'Morven'; expected each once; leave one out"),
        ([replace(bench.facts[0], target=None)], "without a target"),
    ):
        with pytest.raises(ValueError, match=message):
            written(method, bench, None, facts=facts)
    for layers, message in (
        ([3, 2], r"got layers=\[3, 2\]; expected one at least, ascending"),
        ([2, 2], "each once"),
        ([], r"got layers=\[\]"),
        ([2, 9], "got layer 9 of a GPT2LMHeadModel with 6 layers; expected 0 to 5"),
        ([1, 2], "got statistics without transformer.h.1.mlp.c_proj; expected the maps to be edited"),
    ):
        with pytest.raises(ValueError, match=message):
            written(method, bench, found, layers=layers)
    with pytest.raises(ValueError, match="got 6 values for 2 facts; expected one each"):
        written(method, bench, found, facts=bench.facts[:2])
    name = "weight" if method is mt.memit else "ridge"
    with pytest.raises(ValueError, match=f"got {name}=0; expected a positive number"):
        written(method, bench, found, **{name: 0})
    assert bench.untouched()


@METHODS
def test_statistics_and_edits_of_other_networks_are_refused(bench, found, method) -> None:
    other = {"architecture": "another", "weights": "network"}
    with pytest.raises(ValueError, match="got statistics of network .*another.*; expected statistics of this network"):
        written(method, bench, found, statistics=replace(bench.statistics, manifest={"base": other}))
    edit = written(method, bench, found)
    with pytest.raises(ValueError, match="got a previous edit of network .*another"):
        written(method, bench, found, previous=[replace(edit, manifest=dict(edit.manifest) | {"base": other})])
    narrow = mt.Statistics({n: mt.Moments.of(torch.eye(9)) for n in MAPS}, bench.statistics.sites)
    with pytest.raises(ValueError, match=r"got statistics of width 9 at .*; expected 768"):
        written(method, bench, found, statistics=narrow)


def test_a_previous_edit_must_say_what_it_wrote(bench, found) -> None:
    edit = replace(written(mt.memit, bench, found), manifest={"method": "erase"})
    with pytest.raises(ValueError, match="got a previous edit by 'erase', which does not say which facts it wrote"):
        written(mt.alphaedit, bench, found, previous=[edit])


@METHODS
def test_weights_that_are_no_numbers_are_seen(bench, found, method) -> None:
    model = copy.deepcopy(bench.model)
    decoder(model)  # its parts are found while they still tell one from another
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    free = replace(bench.statistics, manifest={})
    with pytest.raises(NonFiniteError, match="non-finite of"):
        method(
            model,
            bench.tokenizer,
            bench.facts,
            layers=LAYERS,
            statistics=free,
            lookup="prompt",
            contexts=(),
            found=found,
        )
