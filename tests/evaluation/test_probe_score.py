"""A probe as the score of criteria: on sentences where one word tells the label, and an edit that hides just that."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mnemotrace as mt
from mnemotrace.adapters.examples import Example
from mnemotrace.core.edit import Dense, Edit
from mnemotrace.evaluation.encoder import ProbeScore, similarity_kept
from tests.adapters.words import WORDS, word_tokenizer
from tests.core.zoo import bits, same_bits
from tests.evaluation.organism import draw

pytest.importorskip("sklearn")

CAT, DOG = (4 + WORDS.index(word) for word in ("cat", "dog"))
TRAINED = ("sat on a mat", "ran far away", "ran home", "sat")
UNSEEN = ("sat on a mat and ran far", "ran on and on", "sat far away .")


class Encoder(nn.Module):
    """Embeds words at random; nothing but `cat` or `dog` tells one label from the other."""

    def __init__(self) -> None:
        super().__init__()
        words = draw(17, 8)
        words[DOG] = -4 * words[CAT]
        words[CAT] *= 4
        self.words = nn.Parameter(words)
        self.map = nn.Linear(8, 6)
        self.map.weight = nn.Parameter(draw(6, 8, seed=1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=self.map(self.words[input_ids]))


def examples(rests: tuple[str, ...]) -> list[Example]:
    return [Example(text=f"the {who} {rest}", label=who) for rest in rests for who in ("cat", "dog")]


@pytest.fixture
def model() -> nn.Module:
    return Encoder().eval()


@pytest.fixture
def score() -> ProbeScore:
    return ProbeScore(word_tokenizer(), examples(TRAINED), batch_size=3)


def blinded(model: nn.Module) -> Edit:
    """The edit after which the map no longer sees what tells a cat from a dog."""
    difference = nn.functional.normalize((model.words[CAT] - model.words[DOG]).detach(), dim=0)
    weight = model.map.weight.detach()
    return Edit((Dense("map.weight", -(weight @ difference)[:, None] * difference),), {})


def test_what_told_the_labels_apart_is_gone_and_the_score_at_chance(model: nn.Module, score: ProbeScore) -> None:
    with mt.applied(model, blinded(model)):
        # Both labels now share every embedding, so a probe can only say the same of both.
        assert float(score(model, examples(UNSEEN)).mean()) == score.chance == 0.5
    assert score(model, examples(UNSEEN)).tolist() == [1.0] * 6


def test_swapping_the_labels_does_not_fool_a_fresh_probe(model: nn.Module, score: ProbeScore) -> None:
    before = score.embed(model, examples(UNSEEN))
    change = torch.zeros_like(model.words)
    change[CAT] = (model.words[DOG] - model.words[CAT]).detach()
    change[DOG] = -change[CAT]
    with mt.applied(model, Edit((Dense("words", change),), {})):
        assert score(model, examples(UNSEEN)).tolist() == [1.0] * 6
        after = score.embed(model, examples(UNSEEN))
    torch.testing.assert_close(after, before.view(3, 2, 6).flip(1).flatten(0, 1))


def test_a_wrong_label_the_order_and_the_batches(model: nn.Module, score: ProbeScore) -> None:
    mixed = [*examples(UNSEEN), Example(text="the cat sat far away .", label="dog")]
    other = ProbeScore(word_tokenizer(), examples(TRAINED), batch_size=64)
    assert score(model, mixed).tolist() == other(model, mixed).tolist() == [1.0] * 6 + [0.0]
    assert score(model, mixed[::-1]).tolist() == [0.0] + [1.0] * 6
    torch.testing.assert_close(score.embed(model, mixed), other.embed(model, mixed))


def test_it_judges_an_engram_as_any_score_does(model: nn.Module, score: ProbeScore) -> None:
    cat, dog = (
        mt.collect(model, [{"input_ids": torch.tensor([[token]]), "attention_mask": torch.ones(1, 1)}])
        for token in (CAT, DOG)
    )
    engram = mt.engram(model, target=cat, reference=dog)
    before = bits(model)
    cats, dogs = ([one for one in examples(UNSEEN) if one.label == label] for label in ("cat", "dog"))
    found = mt.criteria(model, engram, score=score, target=cats, control=dogs, chance=score.chance, draws=1)
    assert found.behaviour["target"]["untouched"] == 1
    assert -1 <= found["reactivation"].value <= 1
    assert found["reactivation"].interval[0] < found["reactivation"].interval[1]
    assert same_bits(bits(model), before)


def test_the_model_is_only_read(model: nn.Module, score: ProbeScore) -> None:
    before = bits(model)
    model.train()
    score(model, examples(UNSEEN))
    assert same_bits(bits(model), before)
    assert model.training


def test_a_missing_scikit_learn_names_the_extra(
    model: nn.Module, score: ProbeScore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"mnemotrace\[probes\]"):
        score(model, examples(UNSEEN))


def test_similarity_is_one_for_the_same_angles_and_lost_by_degrees() -> None:
    x, noise = draw(60, 6), draw(60, 6, seed=1)
    for same in (x, nn.functional.pad(x, (0, 4)), x * (1 + draw(60, 1).abs())):
        assert similarity_kept(x, same) == pytest.approx(1, abs=1e-6)
    kept = [similarity_kept(x, x + amount * noise) for amount in (0, 0.3, 1, 100)]
    assert kept == sorted(kept, reverse=True)
    assert 0.8 < kept[1] < 0.99
    assert abs(kept[-1]) < 0.1


def test_similarity_is_the_correlation_of_the_cosines_of_all_pairs() -> None:
    x, y = draw(5, 3), draw(5, 4, seed=1)
    pairs = [(i, j) for i in range(5) for j in range(i)]
    cosines = torch.tensor([[float(torch.cosine_similarity(z[i], z[j], dim=0)) for i, j in pairs] for z in (x, y)])
    assert similarity_kept(x, y) == pytest.approx(float(torch.corrcoef(cosines)[0, 1]), abs=1e-5)
