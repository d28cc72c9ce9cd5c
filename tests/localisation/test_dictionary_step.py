"""The written-out gradient, beside autograd on a dense code; thresholds beside differences of the loss."""

import pytest
import torch
from torch import Tensor

from mnemotrace.localisation.dictionary_step import Parameters, Rule, step
from mnemotrace.localisation.dictionary_variants import chosen, threshold_gradient

N, D, M, K = 24, 6, 16, 3


def parameters(seed: int = 0, threshold: float | None = None, out: int = D) -> Parameters:
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64)  # noqa: E731
    decoder = draw(M, out)
    theta = None if threshold is None else torch.full((M,), threshold, dtype=torch.float64)
    return Parameters(draw(M, D), draw(M) / 9, decoder / decoder.norm(dim=1, keepdim=True), draw(out) / 9, theta)


def dense_loss(now: Parameters, x: Tensor, y: Tensor, rule: Rule, dead: Tensor) -> Tensor:
    """Write the loss with dense codes, from the formula; which latents are chosen is a constant of the gradient."""
    p = x @ now.encoder.T + now.encoder_bias
    active = chosen(p.detach(), rule.variant, rule.k, now.threshold, rule.bandwidth)
    mask = torch.zeros_like(p).index_put_((active.row[active.on], active.column[active.on]), torch.ones(()).double())
    z = p * mask
    loss = torch.zeros((), dtype=torch.float64)
    for size in rule.prefixes:
        residual = z[:, :size] @ now.decoder[:size] + now.output_bias - y
        loss = loss + residual.square().mean() / len(rule.prefixes)
    if dead.any():
        left = residual.detach()
        values, indices = torch.where(dead, p, -torch.inf).topk(min(rule.spare, int(dead.sum())))
        spare = torch.zeros_like(p).scatter(1, indices, values.relu()) @ now.decoder
        loss = loss + rule.alpha * (left + spare).square().sum() / left.square().sum()
    return loss


CASES = {
    "topk": ("topk", (M,), None),
    "batch_topk": ("batch_topk", (M,), None),
    "matryoshka": ("matryoshka", (4, 8, M), None),
    "jump_relu": ("jump_relu", (M,), 0.6),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dying", [False, True])
@pytest.mark.parametrize("out", [D, 4])
def test_the_gradient_is_that_of_autograd_on_a_dense_code(case: str, dying: bool, out: int) -> None:
    variant, prefixes, threshold = CASES[case]
    now = parameters(0, threshold, out)
    g = torch.Generator().manual_seed(1)
    x = torch.randn(N, D, generator=g, dtype=torch.float64)
    y = x if out == D else torch.randn(N, out, generator=g, dtype=torch.float64)
    dead = (torch.arange(M) % 3 == 0) & dying
    rule = Rule(variant, K, prefixes, 0.1, 0.25, 2)
    found = step(now, x, y, rule, dead)
    leaves = [t.clone().requires_grad_() for t in (now.encoder, now.encoder_bias, now.decoder, now.output_bias)]
    loss = dense_loss(Parameters(*leaves, now.threshold), x, y, rule, dead)
    expected = list(torch.autograd.grad(loss, leaves))
    expected[2] -= (expected[2] * now.decoder).sum(1, keepdim=True) * now.decoder
    for mine, true in zip(found.gradient.tensors(), expected, strict=False):
        torch.testing.assert_close(mine, true, rtol=1e-10, atol=1e-12)
    if case == "topk":
        assert found.error / out == pytest.approx(float(dense_loss(now, x, y, rule, dead & False)))
        assert found.l0 <= K


def test_decoder_gradients_have_no_part_along_their_rows() -> None:
    now, x = parameters(), torch.randn(N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = step(now, x, x, Rule("topk", K, (M,), 0.0, 0.25, 2), torch.arange(M) % 3 == 0).gradient.decoder
    assert float((found * now.decoder).sum(1).abs().max()) < 1e-13 < float(found.abs().max())


def _loss(p: Tensor, theta: Tensor, y: Tensor, price: float) -> Tensor:
    """One latent along a unit direction: what it explains, and what it costs to be on."""
    on = p > theta
    return (torch.where(on, p, 0) - y).square().mean() + price * on.double().mean()


def test_the_gradient_of_a_threshold_is_a_difference_of_the_loss() -> None:
    """The rectangle makes it the central difference over its own width, for what the loss changes linearly in."""
    p = 0.79 + (torch.arange(20_000, dtype=torch.float64) + 0.5) / 1e6  # dense about the threshold
    y, theta, width, price = 0.7 * p + 0.1, torch.tensor([0.8], dtype=torch.float64), 2e-4, 0.3
    active = chosen(p[:, None], "jump_relu", 1, theta, width)
    by_value = 2 * (active.values - y[active.row]) / len(p)
    found = float(threshold_gradient(active, by_value, theta, width, price / len(p)))
    change = _loss(p, theta + width / 2, y, price) - _loss(p, theta - width / 2, y, price)
    assert found == pytest.approx(float(change) / width, rel=1e-3)
    without = float(threshold_gradient(active, by_value, theta, width, 0.0))
    assert without != pytest.approx(float(change) / width, rel=0.1)


def test_many_active_latents_raise_thresholds_and_few_lower_them() -> None:
    x = torch.randn(400, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for k, sign in ((1, -1), (12, 1)):
        now = parameters(0, 0.6)
        still = step(now, x, x, Rule("jump_relu", k, (M,), 0.2, 0.0, 1), torch.zeros(M, dtype=torch.bool))
        free = step(now, x, x, Rule("jump_relu", max(1, round(still.l0)), (M,), 0.2, 0.0, 1), still.on & False)
        assert still.gradient.threshold is not None and free.gradient.threshold is not None
        assert sign * float((still.gradient.threshold - free.gradient.threshold).sum()) > 0
