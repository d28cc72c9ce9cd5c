"""Grafting: which few entries of a fine-tuned network hold its new skill.

    theta_graft = theta_base + gamma * (theta_tuned - theta_base),    gamma in {0, 1},  sum(gamma) = s
    gamma = the s entries of largest score S,    dL/dS_i = dL/dtheta_i * (theta_tuned - theta_base)_i

After Panigrahi et al. 2023, "Task-specific skill localization in fine-tuned language models". As there the search
begins at the s entries that moved most and stays in the neighbourhood of the base and the tuned network. Unlike there
the budget is held at every step (the s best scores are on, and gradients go straight through the choice), scores exist
only for the candidates, the `candidates * s` entries that moved most, and Adam takes the steps, so that a learning rate
of ordinary size does. The mask that is kept is the best on held-out data, the movers' own mask included.

Cost: a forward and a backward pass a step; a pass over the held-out data every few steps. Memory: the two networks, one
copy of the eligible parameters, O(candidates) numbers; no score or moment of the size of the network.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnemotrace.adapters.examples import Batch
from mnemotrace.adapters.hooks import evaluating, forward
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.mask import Mask
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Selection
from mnemotrace.localisation.movers import Pair, Pool

Loss = Callable[[nn.Module, Any], Tensor]
Score = Callable[[nn.Module, Any], Tensor]
METHODS = ("learned", "movers", "random")


def graft(
    base: nn.Module,
    tuned: nn.Module,
    batches: Sequence[Any],
    *,
    budget: float,
    held_out: Any = None,
    loss: Loss | None = None,
    score: Score | None = None,
    method: str = "learned",
    candidates: float = 20.0,
    steps: int = 100,
    learning_rate: float = 0.1,
    every: int = 5,
    select: Selection = None,
    protected: Mask | None = None,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Mask:
    """Find the few entries whose tuned values give the base network the skill of the tuned one.

    Args:
        base: the network before fine-tuning; only read.
        tuned: a copy of it after fine-tuning; only read, and rounded to the base's type where it has another.
        batches: of the skill, what `loss` takes; one a step, in turn.
        budget: entries of the mask: a share of the eligible ones in (0, 1), or a whole number of at least 1.
        held_out: what `score` takes, to choose the step by; None for `batches`, which favours late steps.
        loss: `loss(model, batch)`, a scalar; None for the mean negative log-probability of the scored tokens of
            `adapters.examples.Batch`.
        score: `score(model, held_out)`, higher is better, averaged; None for minus the mean loss over its batches.
        method: `learned`; or one of its controls: `movers`, the entries that moved most, or `random`, any that moved.
        candidates: scores are learned for this many times the budget, at least 1; 10 to 100 are usual.
        steps: of learning.
        learning_rate: of Adam on scores, which start evenly spread from 1 for the largest mover to 0 for the last.
        every: steps between two looks at the held-out data.
        select: names of parameters as in `mt.sites`; None for all but embeddings and the output head, whatever is
            tied to them included. A head that the network does not name (`get_output_embeddings`) is not known as one.
        protected: entries that are taken, by earlier grafts; the mask is disjoint from it.
        generator: of the random mask; None seeds one with 0.
        progress: called after each step.

    Returns:
        The mask, of exactly the budget. Its manifest holds under `evidence` the score of the base, the tuned network,
        the random mask and the movers of equal size, and the learned mask; under `trajectory` the steps and scores.

    Raises:
        EditError: the networks differ in layout.
        SelectionError: no parameter is selected.
        NonFiniteError: a difference or a loss is not finite.
        ValueError: a setting out of range, no batch, or a budget above the number of entries that moved and are free.
        TypeError: batches that only an own `loss` can read.
    """
    batches = list(batches)
    _check(method, batches, candidates=candidates, steps=steps, every=every)
    judged = _Judged(base, loss or answer_loss, score, batches if held_out is None else held_out)
    pair = Pair.of(base, tuned, select, protected)
    generator = generator or torch.Generator().manual_seed(0)
    count = pair.entries(budget)
    chosen = {"random": pair.random(count, generator), "movers": pair.movers(count)}
    evidence = {"base": judged(base), "tuned": judged(tuned)}
    evidence |= {name: judged.grafted(pool, pool.all()) for name, pool in chosen.items()}
    settings: dict[str, Any] = {"entries": count, "eligible": pair.total}
    if method == "learned":
        pool = pair.movers(min(round(count * candidates), pair.moved))
        on, trajectory = _learn(
            judged, pool, batches, count=count, steps=steps, every=every, learning_rate=learning_rate,
            progress=progress or silent,
        )  # fmt: skip
        chosen["learned"], evidence["learned"] = pool.only(on), max(score for _, score in trajectory)
        settings |= {"candidates": len(pool), "steps": steps, "learning_rate": learning_rate, "trajectory": trajectory}
    manifest = {
        "method": "graft",
        "choice": method,
        "base": fingerprint(base),
        "tuned": fingerprint(tuned),
        "seed": generator.initial_seed(),
        **settings,
        "evidence": evidence,
        "version": library_version(),
    }
    return Mask(chosen[method].regions(), pair.total, manifest)


def answer_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean negative log-probability of the scored tokens of a batch, in nats.

    Raises:
        TypeError: not a `Batch`, or a model without logits.
    """
    if not isinstance(batch, Batch):
        raise TypeError(
            f"got a batch of type {type(batch).__name__}; expected one of mnemotrace.adapters.examples.batches; give "
            "loss=..., a function of model and batch, for other data"
        )
    logits = getattr(forward(model, batch), "logits", None)
    if logits is None:
        raise TypeError(
            f"got {type(model).__name__}, which gives no logits; expected a causal language model; give loss=..., a "
            "function of model and batch, for other networks"
        )
    wanted = batch.scored[:, 1:]
    return nn.functional.cross_entropy(logits[:, :-1][wanted].float(), batch.input_ids[:, 1:][wanted])


def _check(method: str, batches: list[Any], *, candidates: float, steps: int, every: int) -> None:
    if method not in METHODS:
        raise ValueError(f"got method={method!r}; expected one of {', '.join(METHODS)}")
    if not batches:
        raise ValueError("got no batch; expected at least one of the skill; the file or the filter may be empty")
    if candidates < 1 or steps < 1 or every < 1:
        raise ValueError(
            f"got candidates={candidates}, steps={steps}, every={every}; expected at least 1 of each; a search "
            "without room or steps is method='movers'"
        )


@dataclass(frozen=True)
class _Judged:
    """The base network, with what is asked of its grafts."""

    base: nn.Module
    loss: Loss
    score: Score | None
    data: Any

    def __call__(self, model: nn.Module) -> float:
        """Score a network."""
        with evaluating(model):
            if self.score is None:
                return -float(torch.stack([self.loss(model, batch) for batch in self.data]).double().mean())
            return float(torch.as_tensor(self.score(model, self.data)).double().mean())

    def grafted(self, pool: Pool, on: Tensor) -> float:
        """Score the base network with some entries of the pool grafted."""
        return self._inside(pool.parameters(pool.values(on)), self)

    def gradient(self, pool: Pool, on: Tensor, batch: Any) -> Tensor:
        """Return dL/dgamma for every entry of the pool, on or off: the gradient of the loss times the change."""
        values = {name: value.requires_grad_() for name, value in pool.values(on).items()}
        with evaluating(self.base), torch.enable_grad():
            loss = self._inside(pool.parameters(values), lambda model: self.loss(model, batch))
            require_finite(loss.detach(), "the loss of a graft")
            slopes = torch.autograd.grad(loss, list(values.values()), materialize_grads=True)
        parts = [slope.double() * pool.change(name) for name, slope in zip(values, slopes, strict=True)]
        return torch.cat([part.cpu() for part in parts]).float()

    def _inside(self, parameters: Mapping[str, Tensor], call: Callable[[nn.Module], Any]) -> Any:
        """Call a function of the base network while it has other parameters, all without gradients of their own."""
        own = {name: parameter.detach() for name, parameter in self.base.named_parameters()}
        named = {f"network.{name}": tensor for name, tensor in {**own, **parameters}.items()}
        return functional_call(_Call(self.base, call), named, ())


class _Call(nn.Module):
    """A function of a network as a module, which is what `functional_call` takes."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self) -> Any:
        return self.call(self.network)


def _learn(
    judged: _Judged,
    pool: Pool,
    batches: Sequence[Any],
    *,
    count: int,
    steps: int,
    every: int,
    learning_rate: float,
    progress: Progress,
) -> tuple[Tensor, list[tuple[int, float]]]:
    """Return which entries are on in the best mask of the search, and the scores on the way."""
    scores = _spread(pool)
    optimiser = torch.optim.Adam([scores], lr=learning_rate)
    trajectory: list[tuple[int, float]] = []
    best = _highest(scores, count)
    for step in range(steps + 1):
        on = _highest(scores, count)
        if step % every == 0 or step == steps:
            trajectory.append((step, judged.grafted(pool, on)))
            if trajectory[-1][1] > max((score for _, score in trajectory[:-1]), default=-float("inf")):
                best = on
        if step < steps:
            scores.grad = judged.gradient(pool, on, batches[step % len(batches)])
            optimiser.step()
            progress(step + 1, steps, "steps")
    return best, trajectory


def _spread(pool: Pool) -> Tensor:
    """Give scores from 1 for the largest mover of a pool to 0 for its last, evenly."""
    order = torch.cat([pool.change(name).abs().cpu() for name in pool.indices]).argsort(descending=True, stable=True)
    return torch.empty(len(pool)).index_copy(0, order, torch.linspace(1, 0, len(pool)))


def _highest(scores: Tensor, count: int) -> Tensor:
    return torch.zeros(len(scores), dtype=torch.bool).index_fill(0, scores.topk(count).indices, True)
