r"""Losses of unlearning by gradients, as pure functions: each reads like its paper's equation.

With :math:`\ell_i = \log \pi_\theta(y_i | x_i)` the log-probability of the whole answer of example `i` (teacher-forced
sum over its `|y_i|` scored tokens), :math:`\ell_i^{ref}` that of the untouched network, and :math:`h` hidden states:

* gradient ascent: minimise the mean of :math:`\log \pi` over tokens; gradient descent, to retain: its negative;
* NPO: :math:`\frac{2}{\beta} \mathrm{mean}_i \log(1 + (\pi_\theta / \pi_{ref})^\beta)
  = -\frac{2}{\beta} \mathrm{mean}_i \log \sigma(-\beta (\ell_i - \ell_i^{ref}))`; for :math:`\beta \to 0` its gradient
  is that of ascent, and it vanishes where the answer is already improbable;
* SimNPO: :math:`-\frac{2}{\beta} \mathrm{mean}_i \log \sigma(-\frac{\beta}{|y_i|} \ell_i - \gamma)`, without
  reference;
* RMU: :math:`\mathrm{mean} (h - c u)^2` towards a random unit vector `u`, and :math:`\mathrm{mean} (h - h^{ref})^2`.

References: Zhang et al. 2024, Negative preference optimization; Fan et al. 2024, Simplicity prevails (SimNPO); Li et
al. 2024, The WMDP benchmark (RMU). All in the type of the logits, at least float32.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from mnemotrace.adapters.examples import Batch


def answer_log_probability(
    logits: Float[Tensor, "b t v"], batch: Batch
) -> tuple[Float[Tensor, " b"], Int[Tensor, " b"]]:
    """Return the summed log-probability of each example's scored tokens, and how many these are.

    Raises:
        ValueError: an example has nothing to predict.
    """
    scored = batch.scored[:, 1:].to(logits.device)
    count = scored.sum(1)
    if not bool(count.all()):
        raise ValueError(
            f"got example {int((count == 0).nonzero()[0])} of a batch of {len(count)} with nothing to predict; "
            "expected a scored token with one before it; give longer texts, a prompt, or a tokenizer that starts texts "
            "with a token"
        )
    chosen = logits[:, :-1][scored]
    chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
    wanted = batch.input_ids[:, 1:].to(logits.device)[scored]
    each = chosen.gather(1, wanted[:, None])[:, 0] - chosen.logsumexp(1)
    return each.new_zeros(len(count)).index_add(0, scored.nonzero()[:, 0], each), count


def ascent_loss(log_probability: Float[Tensor, " b"], count: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean log-probability of a token: falls as the answers are forgotten, without bound."""
    return log_probability.sum() / count.sum()


def npo_loss(log_probability: Float[Tensor, " b"], reference: Float[Tensor, " b"], *, beta: float) -> Float[Tensor, ""]:
    """Negative preference: bounded below by 0, where the answers are far less probable than they were."""
    return -2 / beta * logsigmoid(-beta * (log_probability - reference)).mean()


def simnpo_loss(
    log_probability: Float[Tensor, " b"], count: Int[Tensor, " b"], *, beta: float, margin: float
) -> Float[Tensor, ""]:
    """Negative preference without a reference: by the mean log-probability of a token, so length does not count."""
    return -2 / beta * logsigmoid(-beta / count * log_probability - margin).mean()


def steering_loss(hidden: Float[Tensor, "n d"], wanted: Float[Tensor, "*n d"]) -> Float[Tensor, ""]:
    """Mean squared distance of hidden states from where they are to be: one vector for all, or one each."""
    return (hidden - wanted).square().mean()
