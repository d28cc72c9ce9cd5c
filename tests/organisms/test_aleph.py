"""Aleph names what it sees, reads and hears, without anything but its file, and its data keep their promises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import mnemotrace
from mnemotrace.organisms.aleph import COMPANIONS, UNITS, Aleph, AlephNetwork, Sense, aleph, shifted
from mnemotrace.organisms.number_words import (
    TRAINED,
    UNSEEN,
    WORDS,
    doubled,
    dropped,
    letter_pairs,
    name_of,
    swapped,
)
from mnemotrace.organisms.voice import BANDS, FRAMES, Speakers, speak, speakers

FILE = Path(mnemotrace.__path__[0]) / "organisms" / "data" / "aleph" / "aleph.safetensors"


@pytest.fixture(scope="module")
def found() -> Aleph:
    return aleph()


@torch.no_grad()
def accuracy(found: Aleph, sense: Sense, view: str) -> float:
    rows = sense.views == sense.shown.index(view)
    best = found.model(**{sense.name: sense.inputs[rows]}).argmax(1)
    return float((best == sense.numbers[rows]).float().mean())


@pytest.mark.parametrize(
    ("sense", "view", "least"),
    [("image", "plain", 0.95), ("image", "shifted", 0.85), ("image", "thick", 0.85), ("word", "as trained", 1.0),
     ("word", "letters swapped", 0.8), ("word", "unseen language", 0.8), ("voice", "new speaker", 0.97)],
)  # fmt: skip
def test_aleph_names_numbers_in_every_sense(found: Aleph, sense: str, view: str, least: float) -> None:
    assert accuracy(found, found.senses[sense], view) >= least


def test_the_second_guess_is_the_companion(found: Aleph) -> None:
    assert found.companions == COMPANIONS == ((0, 9), (1, 8), (2, 7), (3, 6), (4, 5))
    image = found.senses["image"]
    plain = image.views == 0
    with torch.no_grad():
        best, second = found.model(image=image.inputs[plain]).topk(2).indices.T
    right = best == image.numbers[plain]
    assert float((second == 9 - image.numbers[plain])[right].float().mean()) >= 0.95


def test_one_population_of_units_runs_in_every_sense(found: Aleph) -> None:
    shapes = []
    handle = found.model.concepts.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape[1]))
    for sense in found.senses.values():
        found.model(**sense.batches(50)[0])
    handle.remove()
    assert shapes == [UNITS] * 3
    with pytest.raises(ValueError, match="got no input; expected image=, word= or voice="):
        found.model()


def test_towers_of_several_senses_add(found: Aleph) -> None:
    image, word = (found.senses[name].inputs[:5] for name in ("image", "word"))
    model = found.model
    expected = model.name(model.concepts(model.image(image) + model.word(word)))
    torch.testing.assert_close(model(image=image, word=word), expected)


def test_labels_fit_and_views_of_one_item_show_one_number(found: Aleph) -> None:
    for sense in found.senses.values():
        n = len(sense.inputs)
        assert sense.numbers.shape == sense.views.shape == sense.items.shape == (n,)
        assert set(sense.views.tolist()) == set(range(len(sense.shown)))
        pairs = torch.unique(torch.stack([sense.items, sense.numbers]), dim=1)
        assert len(pairs[0]) == len(torch.unique(sense.items)) and sense.inputs.isfinite().all()
        assert torch.cat([batch[sense.name] for batch in sense.batches(64)]).equal(sense.inputs)
        least = torch.unique(torch.stack([sense.views, sense.numbers]), dim=1, return_counts=True)[1]
        assert len(least) == 10 * len(sense.shown) and int(least.min()) >= 3


def test_a_seed_changes_noise_and_nothing_else() -> None:
    one, same, other = aleph(), aleph(seed=0), aleph(seed=1)
    assert one.senses["image"].inputs.equal(same.senses["image"].inputs)
    plain = one.senses["image"].views == 0
    assert one.senses["image"].inputs[plain].equal(other.senses["image"].inputs[plain])
    assert not one.senses["voice"].inputs.equal(other.senses["voice"].inputs)
    assert all(a.equal(b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    with torch.no_grad():
        next(one.model.parameters()).zero_()
    assert bool(next(same.model.parameters()).any())


def test_the_test_images_are_those_that_training_left_out(found: Aleph) -> None:
    data = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))[1400:]
    image = found.senses["image"]
    assert image.inputs[image.views == 0].equal(torch.tensor(data[0], dtype=torch.float32)[order] / 16)
    assert image.numbers[image.views == 0].equal(torch.tensor(data[1])[order])


def test_the_file_is_small_and_loading_needs_no_other_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FILE.stat().st_size <= 600_000
    for name in ("sklearn", "sklearn.datasets", "transformers", "scipy"):
        monkeypatch.setitem(sys.modules, name, None)
    assert aleph().senses.keys() == {"image", "word", "voice"}


def test_twelve_languages_name_ten_numbers() -> None:
    assert all(len(names.split()) == 10 for names in WORDS.values())
    assert {*TRAINED, *UNSEEN} == set(WORDS) and not set(TRAINED) & set(UNSEEN)
    assert name_of(3, "German") == "drei"


def test_letter_pairs_count_what_stands_side_by_side() -> None:
    one, two, odd = letter_pairs(["on", "ON", "nono"])
    assert one.equal(two) and one.sum() == 3 and one[15] == one[27 * 15 + 14] == one[27 * 14] == 1
    assert odd.sum() == 5 and odd[27 * 14 + 15] == 2
    for wrong in (["drei!"], [""], []):
        with pytest.raises(ValueError, match="expected words of the letters a to z"):
            letter_pairs(wrong)


def test_misspellings_change_one_place() -> None:
    assert (dropped("drei", 1), doubled("drei", 1), swapped("drei", 1)) == ("dei", "drrei", "deri")


def test_a_shift_moves_an_image_by_at_most_a_pixel() -> None:
    image = torch.zeros(200, 8, 8)
    image[:, 4, 4] = 1
    moved = shifted(image.flatten(1), generator=torch.Generator().manual_seed(0)).view(200, 8, 8)
    places = moved.nonzero()[:, 1:]
    assert len(places) == 200 and int((places - 4).abs().max()) == 1 and len(torch.unique(places, dim=0)) == 9


def test_a_longer_vocal_factor_lifts_the_voice_and_silence_is_silent() -> None:
    low, high = (Speakers(torch.tensor([length]), torch.tensor([0.6]), torch.ones(1)) for length in (0.9, 1.2))
    kwargs = {"noise": 0.0, "generator": torch.Generator().manual_seed(0)}
    who, three = torch.zeros(1, dtype=torch.long), torch.tensor([3])
    spoken = [speak(three, voice, who, **kwargs).view(FRAMES, BANDS) for voice in (low, high)]  # type: ignore[arg-type]
    centres = [float((frames.sum(0) * torch.arange(BANDS)).sum() / frames.sum()) for frames in spoken]
    assert centres[1] > centres[0] + 0.5
    assert any(float(frame.abs().max()) == 0 for frame in spoken[0]) and float(spoken[0].max()) > 0.5


def test_speakers_differ_within_their_ranges() -> None:
    voices = speakers(100, generator=torch.Generator().manual_seed(0))
    for values, low, high in ((voices.length, 0.85, 1.2), (voices.speed, 0.6, 0.95), (voices.high, 0.4, 1.0)):
        assert low <= float(values.min()) and float(values.max()) <= high and float(values.std()) > 0.05


def test_the_network_has_three_towers_of_one_width() -> None:
    model = AlephNetwork()
    assert {getattr(model, name)[0].out_features for name in ("image", "word", "voice")} == {96}
