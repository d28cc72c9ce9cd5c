"""Minds differ in settings, and only in those that their lesion names."""

import json
from dataclasses import fields, replace

import pytest

from mnemotrace.mind.lesion import LESIONS, Lesion, lesion


def _differing(name: str) -> set[str]:
    return {f.name for f in fields(Lesion) if getattr(LESIONS[name], f.name) != getattr(LESIONS["intact"], f.name)}


def test_each_mind_differs_from_the_intact_one_in_what_is_said_of_it() -> None:
    assert _differing("hm") == {"name", "hippocampus_until"}
    assert _differing("aphantasia") == {"name", "simulation"}
    assert not {"simulation", "hippocampus_until"} & (_differing("funes") | _differing("shereshevskii"))
    assert "pooling" in _differing("funes") and "synaesthesia" in _differing("shereshevskii")


def test_plain_values_and_the_time_of_the_loss() -> None:
    made = lesion("hm", at=7)
    assert made.hippocampus_until == 7.0 and Lesion(**json.loads(json.dumps(made.to_json()))) == made


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="got lesion 'borges'; expected one of intact, funes"):
        lesion("borges")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="got at=3 for 'funes'; expected it for 'hm' only"):
        lesion("funes", at=3)
    with pytest.raises(ValueError, match="expected shares from 0 to 1"):
        Lesion(faithful=1.2)
    with pytest.raises(ValueError, match="fading below 1"):
        Lesion(detail_fading=1.0)
    with pytest.raises(ValueError, match="expected deviations of at least 0"):
        Lesion(gist_noise=float("nan"))
    with pytest.raises(ValueError, match="whole numbers of at least 0"):
        Lesion(replay=-1)
    with pytest.raises(ValueError, match="pooling=0.01"):
        Lesion(pooling=0.01)
    with pytest.raises(ValueError, match="expected a finite time in days, or None"):
        replace(LESIONS["intact"], hippocampus_until=float("inf"))
