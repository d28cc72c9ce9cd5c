"""A schema is the mixture that explains held-out episodes best: the truth's kinds are found, not one an episode."""

import builtins

import pytest
import torch
from sklearn.mixture import GaussianMixture as Oracle

from mnemotrace.core.errors import NonFiniteError, NumericalWarning
from mnemotrace.formation.schema import fit_schema
from mnemotrace.memories.gaussian import GaussianMixture


def _episodes(generator: torch.Generator, n: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Episodes of three kinds, with a covariance of their own each."""
    centres = torch.tensor([[3.0, 0, 0], [-3, 0, 1], [0, 4, -2]], dtype=torch.float64)
    roots = 0.5 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    kind = torch.randint(3, (n,), generator=generator)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return centres[kind] + torch.einsum("ni,nij->nj", noise, roots[kind]), centres


def test_the_kinds_of_episodes_are_found_and_so_are_their_number_and_means(generator: torch.Generator) -> None:
    episodes, centres = _episodes(generator)
    schema = fit_schema(episodes, components=(1, 2, 3, 5), generator=generator)
    assert isinstance(schema, GaussianMixture) and len(schema.means) == 3
    assert float(torch.cdist(centres, schema.means).amin(1).max()) < 0.3
    assert float(schema.weights.min()) > 0.25


def test_it_explains_episodes_as_scikit_learn_says(generator: torch.Generator) -> None:
    episodes, _ = _episodes(generator)
    schema = fit_schema(episodes, components=(3,), generator=generator)
    oracle = Oracle(3, n_init=3, random_state=0).fit(episodes.numpy())
    found = schema.log_kernel(episodes, 1e-4)  # next to no noise: the density itself
    assert torch.allclose(found, torch.from_numpy(oracle.score_samples(episodes.numpy())), atol=1e-2)


def test_it_does_not_end_at_one_component_an_episode(generator: torch.Generator) -> None:
    episodes = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    assert len(fit_schema(episodes, components=(1, 2, 30), spread=1e-3, generator=generator).means) < 30


def test_the_same_generator_gives_the_same_schema(generator: torch.Generator) -> None:
    episodes, _ = _episodes(generator, 100)
    first, second = (fit_schema(episodes.float(), components=(2, 3)) for _ in range(2))
    assert torch.equal(first.means, second.means) and first.means.dtype == torch.float32


def test_a_fit_that_does_not_converge_warns(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes, _ = _episodes(generator, 60)
    fit = Oracle.fit

    def stumble(self: Oracle, rows: object) -> Oracle:
        found = fit(self, rows)
        found.converged_ = False
        return found

    monkeypatch.setattr(Oracle, "fit", stumble)
    with pytest.warns(NumericalWarning, match="the fit of 2 components to 60 episodes did not converge"):
        fit_schema(episodes, components=(2,))


def test_mistakes_are_named(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes, _ = _episodes(generator, 30)
    for call, kind, text in [
        (lambda: fit_schema([1.0]), ValueError, "got episodes list; expected a tensor of shape"),
        (lambda: fit_schema(episodes[0]), ValueError, r"got episodes \(3,\); expected a tensor of shape \(n, d\)"),
        (lambda: fit_schema(episodes.long()), TypeError, "got a tensor of torch.int64 as episodes"),
        (lambda: fit_schema(episodes * torch.inf), NonFiniteError, "in the episodes"),
        (lambda: fit_schema(episodes, components=(1, 29)), ValueError, "got 30 episodes, components=.1, 29.,"),
        (lambda: fit_schema(episodes, components=()), ValueError, "expected sizes from 1"),
        (lambda: fit_schema(episodes, held_out=1.0), ValueError, "held_out=1.0, .*a share between 0 and 1"),
        (lambda: fit_schema(episodes, spread=0.0), ValueError, "spread=0.0; expected sizes .* a spread above 0"),
    ]:
        with pytest.raises(kind, match=text):
            call()
    real = builtins.__import__

    def absent(name: str, *rest: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"needs scikit-learn: pip install 'mnemotrace\[probes\]'"):
        fit_schema(episodes)
