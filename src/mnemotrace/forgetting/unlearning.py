"""Unlearning by gradients, the baselines that closed forms are compared with; each returns an `Edit`.

All share one loop: Adam on copies of the chosen parameters, one batch to forget and one to retain a step, the loss
`forget + retain_weight * retain`. What differs is the loss, in `forgetting.losses`. The network itself is never written
to: it runs with the copies in place of its parameters, so its weights, gradients, flags and hooks are as before
whatever happens. It runs in evaluation mode, so that dropout draws nothing and the same data give the same edit.

Cost: a forward and a backward pass of each batch a step, and one forward pass of each batch before the first step
where a reference is needed. Memory: four copies of the chosen parameters (float32), the graph of one pass, and the
logits `b t v`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnemotrace.adapters.difference import difference
from mnemotrace.adapters.examples import Batch
from mnemotrace.adapters.hooks import evaluating, forward, patch
from mnemotrace.core.artifact import fingerprint, library_version
from mnemotrace.core.edit import Edit
from mnemotrace.core.errors import EditError, NonFiniteError
from mnemotrace.core.progress import Progress, silent
from mnemotrace.core.site import Selection, select_names
from mnemotrace.forgetting.concept import check_modules, tensor_of
from mnemotrace.forgetting.losses import answer_log_probability, ascent_loss, npo_loss, simnpo_loss, steering_loss

Run = Callable[[Batch], Any]
Loss = Callable[[Run, int], Tensor]
Stop = Callable[[int, Callable[[], Edit]], bool]


def gradient_ascent(
    model: nn.Module,
    forget: Sequence[Batch],
    *,
    steps: int,
    learning_rate: float,
    select: Selection = None,
    rank: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Edit:
    """Make the answers to forget improbable, whatever else it costs; as `gradient_difference` without retaining."""
    return gradient_difference(
        model, forget, (), steps=steps, learning_rate=learning_rate, select=select, rank=rank, stop=stop,
        progress=progress,
    )  # fmt: skip


def gradient_difference(
    model: nn.Module,
    forget: Sequence[Batch],
    retain: Sequence[Batch],
    *,
    steps: int,
    learning_rate: float,
    retain_weight: float = 1.0,
    select: Selection = None,
    rank: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Edit:
    """Ascend on what to forget and descend on what to retain.

    Args:
        model: a causal language model; never written to.
        forget: batches from `adapters.examples.batches`; their scored tokens are what is unlearned. Cycled.
        retain: batches whose scored tokens must stay probable; cycled. Empty retains nothing.
        steps: of Adam, each on one batch of either kind.
        learning_rate: of Adam; 1e-5 to 1e-4 for large models, more for small ones.
        retain_weight: of the loss on `retain` beside that on `forget`.
        select: which parameters are trained, by name as in `mt.task_vector`; None for all.
        rank: most rank of the change of each linear map, cut after training; None keeps it whole.
        stop: called after each step with its number and a callable that makes the edit so far; true ends the training.
        progress: called after each step.

    Returns:
        The edit, with the settings, the number of steps done, and the first and last loss of either kind.

    Raises:
        ValueError: no batch to forget, or steps, a rate or a weight that make no sense.
        NonFiniteError: the loss or a weight is not finite any more; nothing is returned and the network is unchanged.
        EditError: nothing has changed.
    """
    return _unlearn(
        model,
        lambda run, i: ascent_loss(*_answers(run, forget[i])),
        _retaining(retain),
        (len(forget), len(retain)),
        {"method": "gradient_difference" if retain else "gradient_ascent"},
        steps=steps, learning_rate=learning_rate, retain_weight=retain_weight, select=select, rank=rank, stop=stop,
        progress=progress,
    )  # fmt: skip


def npo(
    model: nn.Module,
    forget: Sequence[Batch],
    retain: Sequence[Batch] = (),
    *,
    steps: int,
    learning_rate: float,
    beta: float = 0.1,
    retain_weight: float = 1.0,
    select: Selection = None,
    rank: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Edit:
    """Negative preference optimisation: ascent that lets go of an answer once it is improbable.

    As `gradient_difference`, with `beta` above 0 for how soon it lets go. The log-probabilities of the untouched
    network are taken once, before the first step.
    """
    _check_positive("beta", beta)
    with evaluating(model):
        reference = [_answers(partial(forward, model), batch)[0] for batch in forget]
    return _unlearn(
        model,
        lambda run, i: npo_loss(_answers(run, forget[i])[0], reference[i], beta=beta),
        _retaining(retain),
        (len(forget), len(retain)),
        {"method": "npo", "beta": beta},
        steps=steps, learning_rate=learning_rate, retain_weight=retain_weight, select=select, rank=rank, stop=stop,
        progress=progress,
    )  # fmt: skip


def simnpo(
    model: nn.Module,
    forget: Sequence[Batch],
    retain: Sequence[Batch] = (),
    *,
    steps: int,
    learning_rate: float,
    beta: float = 2.5,
    margin: float = 0.0,
    retain_weight: float = 1.0,
    select: Selection = None,
    rank: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Edit:
    """Simple NPO: no reference, and every answer counts by its mean token, so that long ones are not forgotten first.

    As `gradient_difference`, with `beta` above 0 and the `margin` that the negative mean log-probability is to exceed.
    """
    _check_positive("beta", beta)
    return _unlearn(
        model,
        lambda run, i: simnpo_loss(*_answers(run, forget[i]), beta=beta, margin=margin),
        _retaining(retain),
        (len(forget), len(retain)),
        {"method": "simnpo", "beta": beta, "margin": margin},
        steps=steps, learning_rate=learning_rate, retain_weight=retain_weight, select=select, rank=rank, stop=stop,
        progress=progress,
    )  # fmt: skip


def rmu(
    model: nn.Module,
    forget: Sequence[Batch],
    retain: Sequence[Batch],
    *,
    module: str,
    coefficient: float,
    steps: int,
    learning_rate: float,
    retain_weight: float = 1.0,
    select: Selection = None,
    rank: int | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
    generator: torch.Generator | None = None,
) -> Edit:
    """Steer the hidden states of what to forget towards a random vector, and hold those of what to retain.

    As `gradient_difference`, but the positions that count are those of `batch.rows`: give `positions="all"` for every
    token, as in the paper. Only parameters before the module can change.

    Args:
        model: a causal language model; never written to.
        forget: batches to forget.
        retain: batches whose hidden states are to stay.
        module: name of the module, a block in the first half for example, whose output is steered.
        coefficient: norm of the vector; several times the norm of the hidden states there.
        steps: of Adam.
        learning_rate: of Adam.
        retain_weight: of the loss on `retain`.
        select: which parameters; the paper trains the last maps of the MLPs of three blocks up to the module.
        rank: as in `gradient_difference`, and so `stop` and `progress`.
        stop: ends the training.
        progress: called after each step.
        generator: draws the vector; None seeds one with 0.
    """
    check_modules(model, [module])
    generator = generator or torch.Generator().manual_seed(0)
    with evaluating(model):
        reference = [_hidden(partial(forward, model), model, module, batch) for batch in retain]
        width = _hidden(partial(forward, model), model, module, forget[0]).shape[1] if forget else 1
    drawn = torch.rand(width, generator=generator, device=generator.device)
    control = coefficient * drawn / drawn.norm()
    return _unlearn(
        model,
        lambda run, i: _steered(_hidden(run, model, module, forget[i]), control),
        lambda run, i: _steered(_hidden(run, model, module, retain[i]), reference[i]),
        (len(forget), len(retain)),
        {"method": "rmu", "module": module, "coefficient": coefficient, "seed": generator.initial_seed()},
        steps=steps, learning_rate=learning_rate, retain_weight=retain_weight, select=select, rank=rank, stop=stop,
        progress=progress,
    )  # fmt: skip


def _answers(run: Run, batch: Batch) -> tuple[Tensor, Tensor]:
    output = run(batch)
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if logits is None:
        raise TypeError(
            f"got {type(output).__name__}, which holds no logits; expected a causal language model's output"
        )
    return answer_log_probability(logits, batch)


def _retaining(retain: Sequence[Batch]) -> Loss:
    return lambda run, i: -ascent_loss(*_answers(run, retain[i]))


def _hidden(run: Run, model: nn.Module, module: str, batch: Batch) -> Tensor:
    """Return what a module gives at the rows of a batch, `(n, d)`."""
    found: list[Tensor] = []

    def keep(output: Any) -> Any:
        found.append(tensor_of(output, module))
        return output

    with patch(model, {module: keep}):
        run(batch)
    return found[-1][batch.rows.to(found[-1].device)]


def _steered(hidden: Tensor, wanted: Tensor) -> Tensor:
    hidden = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    return steering_loss(hidden, wanted.to(hidden))


def _unlearn(
    model: nn.Module,
    forgetting: Loss,
    retaining: Loss,
    counts: tuple[int, int],
    manifest: Mapping[str, Any],
    *,
    steps: int,
    learning_rate: float,
    retain_weight: float,
    select: Selection,
    rank: int | None,
    stop: Stop | None,
    progress: Progress | None,
) -> Edit:
    """Train copies of the chosen parameters and return what has changed."""
    _check(counts, steps, learning_rate, retain_weight)
    kept = {name: p.detach() for name, p in model.named_parameters() if p.is_floating_point()}
    kept = {name: kept[name] for name in select_names(kept, select)}
    copies = {
        name: values.to(torch.promote_types(values.dtype, torch.float32), copy=True).requires_grad_()
        for name, values in kept.items()
    }
    settings = {"learning_rate": learning_rate, "retain_weight": retain_weight, "rank": rank}
    losses: list[tuple[float, float]] = []

    def run(batch: Batch) -> Any:
        parameters = {name: copy.to(kept[name].dtype) for name, copy in copies.items()}
        return functional_call(model, parameters, kwargs=dict(batch))

    def edit() -> Edit:
        changes, energy = difference(model, copies, rank=rank)
        told = {"steps": len(losses), "forget_loss": [losses[0][0], losses[-1][0]],
                "retain_loss": [losses[0][1], losses[-1][1]], "energy": energy}  # fmt: skip
        return Edit(changes, {**manifest, **settings, **told, "base": base, "version": library_version()})

    base = fingerprint(model)
    optimiser = torch.optim.Adam(copies.values(), lr=learning_rate)
    for step in range(1, steps + 1):
        optimiser.zero_grad()
        with evaluating(model), torch.enable_grad():
            forgot = forgetting(run, (step - 1) % counts[0])
            held = retaining(run, (step - 1) % counts[1]) if counts[1] and retain_weight else torch.zeros(())
            (forgot + retain_weight * held.to(forgot.device)).backward(inputs=list(copies.values()))
        losses.append((float(forgot.detach()), float(held.detach())))
        _check_finite(losses, learning_rate)
        optimiser.step()
        (progress or silent)(step, steps, "steps")
        if stop is not None and stop(step, edit):
            break
    done = edit()
    if not done.changes:
        raise EditError(
            f"got no change of {len(copies)} parameters in {steps} steps; expected some that the loss depends on; "
            "choose others with `select`"
        )
    return done


def _check(counts: tuple[int, int], steps: int, learning_rate: float, retain_weight: float) -> None:
    if not counts[0]:
        raise ValueError("got no batch to forget; expected at least one from adapters.examples.batches")
    if steps < 1:
        raise ValueError(f"got steps={steps}; expected at least 1")
    _check_positive("learning_rate", learning_rate)
    if not 0 <= retain_weight < float("inf"):
        raise ValueError(f"got retain_weight={retain_weight}; expected a number from 0 on; 0 retains nothing")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"got {name}={value}; expected a finite number above 0")


def _check_finite(losses: Sequence[tuple[float, float]], learning_rate: float) -> None:
    forgot, held = losses[-1]
    if not torch.isfinite(torch.tensor(losses[-1])).all():
        raise NonFiniteError(
            f"got losses {forgot} (forget) and {held} (retain) at step {len(losses)}; expected finite ones; the "
            f"training has diverged: lower learning_rate (now {learning_rate}), take fewer steps, or use npo, which is "
            "bounded"
        )
