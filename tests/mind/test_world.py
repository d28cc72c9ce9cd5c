"""A code gives values back, says nothing of what was not said, and is read more surely the more redundant it is."""

import pytest
import torch

from mnemotrace.core.errors import NonFiniteError
from mnemotrace.mind.world import READING, Attribute, Code, World
from tests.mind.minds import WORLD


def test_what_is_perceived_is_read_back_and_the_rest_is_open() -> None:
    code = Code(WORLD, synaesthesia=5, separation=7)
    said = {"who": "Ben", "smell": "roses"}
    read = code.read(code.perceive(said)[None])
    assert code.d == 18 + 5 * 5 + 7
    for name, value in said.items():
        assert int(read[name][0].argmax()) == WORLD.attributes[name].values.index(value)
    assert torch.allclose(read["place"][0], torch.full((3,), 1 / 3))


def test_reading_is_the_posterior_of_a_matched_filter() -> None:
    code = Code(WORLD, synaesthesia=3, seed=2)
    x = torch.randn(4, code.d, generator=torch.Generator().manual_seed(1))
    for noise in (0.0, 0.7):
        for name, found in code.read(x, noise=noise).items():
            part = x[:, code.blocks[name]].double()
            distances = (part[:, None] - code.books[name].double()).square().sum(2)
            by_bayes = torch.softmax(-distances / (2 * (READING**2 + noise**2)), 1)
            assert torch.allclose(found.double(), by_bayes, atol=1e-5)


def test_a_redundant_code_is_read_more_surely_when_a_trace_has_faded() -> None:
    plain, rich = (Code(WORLD, synaesthesia=n) for n in (0, 24))
    sure = [float(code.read(0.3 * code.perceive({"smell": "tar"})[None])["smell"][0, 0]) for code in (plain, rich)]
    assert sure[1] > sure[0] + 0.1


def test_masks_and_json() -> None:
    code = Code(WORLD, separation=4)
    assert int(code.mask(("who", "sound")).sum()) == 8 and not bool(code.mask(())[-4:].any())
    again = World.from_json(WORLD.to_json())
    assert dict(again.attributes) == dict(WORLD.attributes) and again.names("detail") == ("smell", "sound")


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="got attribute 'where'; expected one of who, place"):
        WORLD.check({"where": "harbour"})
    with pytest.raises(ValueError, match="got who='Zoe'; expected one of Ana"):
        Code(WORLD).perceive({"who": "Zoe"})
    with pytest.raises(ValueError, match="got no attribute; expected at least one"):
        WORLD.check({})
    with pytest.raises(ValueError, match="at least two different values"):
        Attribute("who", ("Ana", "Ana"))
    with pytest.raises(ValueError, match="expected 'gist' or 'detail'"):
        Attribute("who", ("Ana", "Ben"), "core")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="expected different names, at least one of them of role 'gist'"):
        World([Attribute("smell", ("tar", "bread"), "detail")])
    with pytest.raises(NonFiniteError):
        Code(WORLD).read(torch.full((1, 18), torch.nan))
