r"""Values of facts: what an MLP should give at a subject's last token so that the network says the target.

For each fact a vector :math:`\delta` is added to the MLP's output (or to the block's) at that place and optimised:

.. math::
   \frac1{1+m} \sum_{j=0}^{m} -\frac{1}{|o|} \sum_i \log p_\delta(o_i \mid x_j, o_{<i})
   + \kappa\,KL\!\left(p_\delta(\cdot \mid s) \,\|\, p(\cdot \mid s)\right) + \omega \frac{\|\delta\|}{\|v\|},

over the bare prompt and the prompt after `m` contexts, by Adam, with :math:`\|\delta\|` held to at most `clamp`
:math:`\|v\|`. `s` is the essence prompt up to the subject's last token, where the divergence is read; whole where facts
are looked up at the end of the prompt. `v` is what the bare prompt gives before any change.

Scale: Adam works on :math:`\delta \sqrt d / \|v\|`, so a step is at most about `learning_rate` :math:`\|v\|` long
whatever the model, and the decay has no unit. The published form, with steps of 0.5 in every coordinate and the decay
:math:`0.5\,\|\delta\| / \|v\|^2`, depends on the scale of a model's activations; it is `legacy=True`. Published
code stops before the last of 20 updates, and so does this: the last loss is that of the vector returned.

Exact and cheaper than full passes: what comes before the subject's last token and below the edited layer never
changes, so it is kept once; a step runs the blocks above over the few columns from there on, and logits are formed
where targets are read. Facts share a pass, and leave it once they are done. Forward passes run in the model's own type;
vectors, losses and Adam in float32 at least.

Reference: Meng et al. 2022, section 3.1, equation 4. Cost: `steps` times forward and backward of
`(L - layer) / L * (T - s) / T` of `n (m + 2)` rows. Memory: the activations of `batch_size` rows of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemotrace.adapters.decoder import decoder
from mnemotrace.adapters.facts import Fact
from mnemotrace.adapters.hooks import evaluating
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.modification.contexts import Contexts, Lookup
from mnemotrace.modification.keys import At, outputs, require_facts
from mnemotrace.modification.questions import Questions, questions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Values:
    """What was found for `n` facts.

    Attributes:
        deltas: what to add to the output, one column a fact, float64.
        outputs: the output of the bare prompt before any change, float64.
        losses: of each fact, one a step; the last one is that of the vector in `deltas`.
        before: probability of the target before, the geometric mean over tokens and rows.
        after: the same with the vector added.
    """

    deltas: Float[Tensor, "d n"]
    outputs: Float[Tensor, "d n"]
    losses: tuple[tuple[float, ...], ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def steps(self) -> tuple[int, ...]:
        """How many losses were taken of each fact; updates are one less."""
        return tuple(map(len, self.losses))


def values(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Sequence[Fact],
    *,
    layer: int,
    at: At = "mlp",
    contexts: Contexts = (),
    lookup: Lookup = "subject",
    steps: int = 20,
    learning_rate: float = 0.5,
    weight_decay: float = 0.5,
    kl_weight: float = 0.0625,
    clamp: float = 4.0,
    stop_below: float = 0.05,
    essence: str = "{} is a",
    legacy: bool = False,
    batch_size: int = 512,
    progress: Progress | None = None,
) -> Values:
    """Find the values of facts, each on its own, all at once.

    Args:
        model: a causal language model; left as it was.
        tokenizer: of the model; a fast one.
        facts: with targets.
        layer: whose output is changed; counted from the end when negative.
        at: add to the output of the `mlp`, or of the whole `block`; the same where the block merely adds its MLP.
        contexts: from `contexts`; none optimises the bare prompt alone.
        lookup: where a fact is looked up: at the last token of its `subject`, or of its `prompt`.
        steps: losses taken at most, at least 1; one update fewer.
        learning_rate: of Adam, in units of the output's norm; absolute with `legacy`.
        weight_decay: on the relative norm; `legacy` divides by the output's norm once more.
        kl_weight: on the divergence at the essence prompt.
        clamp: most norm, in units of the output's norm.
        stop_below: a fact with a loss below is done.
        essence: a prompt that asks what the subject is; `{}` stands for it.
        legacy: learning rate and decay in the published, absolute units.
        batch_size: rows optimised together; a fact has one a context and two more.
        progress: called with the number of facts done.

    Returns:
        One column a fact, in their order.

    Raises:
        ValueError: no fact, a fact without a target, a setting out of range, no such layer, a change that cannot reach
            the prediction (last layer, with words between subject and answer, or an answer of several tokens), or as
            `tokens_of`.
        TypeError: the network cannot be run in parts, see `adapters.replay`.
        NonFiniteError: activations or losses that are not finite.
    """
    positive = {"steps": steps, "learning_rate": learning_rate, "clamp": clamp, "batch_size": batch_size}
    others = {"weight_decay": weight_decay, "kl_weight": kl_weight, "stop_below": stop_below}
    _check(facts, at, essence, positive, others)
    layer = decoder(model).checked(layer)
    size = max(1, batch_size // (len(contexts) + 2))
    where: Any = {"layer": layer, "lookup": lookup}
    descent = {"steps": steps, "learning_rate": learning_rate, "clamp": clamp, "stop_below": stop_below}
    found: list[Values] = []
    report = progress or silent
    for start in range(0, len(facts), size):
        part = facts[start : start + size]
        with evaluating(model):
            asked = questions(model, tokenizer, part, **where, at_mlp=at == "mlp", contexts=contexts, essence=essence)
            v = outputs(model, tokenizer, part, **where, at=at)
            objective = _Objective(asked, asked.unchanged(), v.norm(dim=0), weight_decay, kl_weight, legacy)
            found.append(_descend(objective, v, **descent))
        report(start + len(part), len(facts), "facts")
    return _joined(found)


@dataclass(frozen=True, eq=False)
class _Objective:
    """The loss of several facts, a vector each.

    Attributes:
        asked: the facts.
        kept: `(n, v)` log-probabilities at the essence prompts before any change.
        norms: `(n,)` of the outputs, float64.
    """

    asked: Questions
    kept: Tensor
    norms: Tensor
    weight_decay: float
    kl_weight: float
    legacy: bool

    @property
    def scale(self) -> Tensor:
        """`(n, 1)`: how much of the vector one unit of what Adam moves is."""
        d = self.asked.suffix.kept.hidden[0].shape[-1]
        return torch.ones_like(self.norms)[:, None] if self.legacy else self.norms[:, None] / d**0.5

    def __call__(self, deltas: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss and negative log-probability `(c,)` of the chosen facts."""
        nll, logs = self.asked.ask(deltas, chosen)
        divergence = (logs.exp() * (logs - self.kept[chosen])).sum(-1)
        norms = self.norms[chosen]
        share = deltas.norm(dim=1) / (norms.square() if self.legacy else norms)
        return nll + self.kl_weight * divergence + self.weight_decay * share.to(nll), nll


def _descend(
    objective: _Objective, v: Tensor, *, steps: int, learning_rate: float, clamp: float, stop_below: float
) -> Values:
    """Run Adam on all facts; one that is done stays as it is."""
    n = v.shape[1]
    dtype = torch.promote_types(objective.kept.dtype, torch.float32)
    scale, bound = objective.scale.to(dtype), clamp * objective.norms[:, None].to(dtype)
    x = torch.zeros(n, len(v), dtype=dtype, device=v.device, requires_grad=True)
    adam = torch.optim.Adam([x], lr=learning_rate)
    going = torch.ones(n, dtype=torch.bool, device=v.device)
    losses: list[list[float]] = [[] for _ in range(n)]
    nlls: list[Tensor] = []
    for step in range(steps):
        chosen = going.nonzero()[:, 0]
        with torch.enable_grad():
            loss, nll = objective(x[chosen] * scale[chosen], chosen)
            (x.grad,) = torch.autograd.grad(loss.sum(), x)
        require_finite(loss, "the losses of values; the change overflows in the model's type")
        nlls.append(nlls[-1].index_copy(0, chosen, nll.detach()) if nlls else nll.detach())
        for i, value in zip(chosen.tolist(), loss.tolist(), strict=True):
            losses[i].append(value)
        going[chosen] = loss.detach() >= stop_below
        if step + 1 == steps or not bool(going.any()):
            break
        kept = x.detach().clone()
        adam.step()
        with torch.no_grad():
            over = ((x * scale).norm(dim=1, keepdim=True) / bound).clamp_min(1)
            x.copy_(torch.where(going[:, None], x / over, kept))
    before, after = (tuple(nll.neg().exp().tolist()) for nll in (nlls[0], nlls[-1]))
    return Values((x.detach() * scale).double().T, v, tuple(map(tuple, losses)), before, after)


def _joined(parts: Sequence[Values]) -> Values:
    return Values(
        torch.cat([part.deltas for part in parts], 1),
        torch.cat([part.outputs for part in parts], 1),
        tuple(losses for part in parts for losses in part.losses),
        tuple(value for part in parts for value in part.before),
        tuple(value for part in parts for value in part.after),
    )


def _check(
    facts: Sequence[Fact], at: str, essence: str, positive: Mapping[str, float], others: Mapping[str, float]
) -> None:
    """Check what does not need the network.

    Raises:
        ValueError: something is out of range.
    """
    require_facts(facts)
    if at not in ("mlp", "block"):
        raise ValueError(f"got at={at!r}; expected 'mlp' or 'block'")
    if "{}" not in essence:
        raise ValueError(f"got essence={essence!r}; expected a prompt with {{}} where the subject belongs")
    low = [f"{name}={value}" for name, value in positive.items() if not 0 < value < float("inf")]
    low += [f"{name}={value}" for name, value in others.items() if not 0 <= value < float("inf")]
    if low:
        raise ValueError(
            f"got {', '.join(low)}; expected {', '.join(positive)} above 0 and {', '.join(others)} from 0; all finite"
        )
