"""Draws of a memory end as its traces, in proportion to their posterior; a cortex that pools completes a cue."""

import torch

from mnemotrace.mind.hippocampus import Hippocampus
from mnemotrace.mind.nights import newborn, replay
from mnemotrace.mind.simulating import imagine, perceived, settle
from mnemotrace.mind.world import Code
from tests.mind.minds import WORLD, events, quiet


def _hippocampus(name: str = "intact") -> Hippocampus:
    made = Hippocampus(Code(WORLD), quiet(name, gist_noise=0.0, detail_noise=0.0))
    for day in events(3):
        for event in day:
            made.add(made.encode(event.attributes, arousal=0.0, generator=torch.Generator().manual_seed(0)))
    return made


def test_an_ambiguous_cue_is_told_as_often_as_its_events_are_likely() -> None:
    hippocampus, total = _hippocampus(), torch.zeros(4)
    generator = torch.Generator().manual_seed(0)
    cue = perceived(hippocampus.code, {"place": "harbour"}, 0.0, generator)
    fits = [e.attributes["who"] for day in events(3) for e in day if e.attributes["place"] == "harbour"]
    for _ in range(20):
        total += settle(hippocampus, cue, generator).chances["who"] / 20
    expected = torch.tensor([fits.count(who) / len(fits) for who in WORLD.attributes["who"].values])
    assert float((total - expected).abs().max()) < 0.15


def test_a_trace_that_contradicts_the_cue_is_no_memory_of_it() -> None:
    hippocampus, generator = _hippocampus(), torch.Generator().manual_seed(0)
    said = {"who": "Ana", "place": "harbour", "deed": "digging", "smell": "smoke"}
    found = settle(hippocampus, perceived(hippocampus.code, said, 0.0, generator), generator)
    assert found.handle is None and not found.chances and found.samplers == 0


def test_a_cortex_completes_what_usually_is_if_it_was_trained_where_instances_run_together() -> None:
    share: dict[str, float] = {}
    for name, pooling in (("pools", 3.0), ("does not", 0.2)):
        hippocampus, generator = _hippocampus(), torch.Generator().manual_seed(0)
        memory, lesion = hippocampus.memory, quiet(replay=90, pooling=pooling)
        assert memory is not None
        before = newborn(hippocampus.code, generator)
        cortex, counts, losses = replay(
            before, memory.patterns, hippocampus.code, lesion, arousal=torch.zeros(12), generator=generator
        )
        assert int(counts.sum()) == 90 * 64 and losses[-1] < losses[0]
        right = 0.0
        for value, (place, deed) in enumerate((("harbour", 0), ("market", 1), ("garden", 2))):
            cue = perceived(hippocampus.code, {"place": place}, 0.0, generator)
            found = imagine(cortex, hippocampus.code, cue, {}, top=pooling, generator=generator).chances["deed"]
            right += float(found[deed]) / 3
            assert value == deed and float(found.sum()) <= 1 + 1e-6
        share[name] = right
    assert share["pools"] > share["does not"] + 0.35
