r"""A predictive-coding store: layers that predict the one below, and weights that learn from local errors only.

.. math:: F(x) = \tfrac12 \sum_{l=0}^{L} |\varepsilon_l|^2, \qquad
          \varepsilon_l = x_l - W_l \tanh(x_{l+1}) - b_l, \qquad \varepsilon_L = x_L - b_L ,

with the features as :math:`x_0`. Hidden layers relax, :math:`\dot x_l = -\varepsilon_l + \tanh'(x_l)\, W_{l-1}^T
\varepsilon_{l-1}`; then each weight learns from the error on its own layer and the activity above,
:math:`\Delta W_l \propto \varepsilon_l \tanh(x_{l+1})^T`. Nothing else is passed on, and patterns are not kept: they
are where the errors are small.

A cue with gaps holds what is known, and the rest becomes what is predicted. The error of a cue with noise of spread
`sigma` counts :math:`1 / (1 + \sigma^2)`, which is what integrating over the clean features gives, and the cue is
projected once. For comparison with `ModernHopfield`, which keeps the patterns: see the measurements in
`docs/explain/reconsolidation.md`.

Reference: Rao and Ballard 1999; Salvatori et al. 2021, Associative memories via predictive coding. Cost: O(b w) a step
of relaxation for `w` weights; learning is `passes` times the patterns times `relaxation` steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.core.memory import known_of, states_of
from mnemotrace.memories.patterns import Patterns

_STEP, _BATCH, _SETTLING = 0.1, 50, 5


class PCStore(nn.Module):
    """Patterns in the weights of a small hierarchy; see `PCStore.learn`.

    Attributes:
        weights: `W_l`, `(w_l, w_{l+1})`, from the features up.
        biases: `b_l`, `(w_l,)`, one more than weights.
        relaxation: steps of the hidden layers for a cue.
        manifest: provenance.
    """

    kind = "pc_store"

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        *,
        relaxation: int = 20,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        """Take weights as they are.

        Raises:
            ValueError: no hidden layer, widths that do not follow each other, or no step of relaxation.
        """
        super().__init__()
        widths = [len(b) for b in biases]
        shapes = [tuple(w.shape) for w in weights]
        if not shapes or shapes != list(zip(widths, widths[1:], strict=False)):
            raise ValueError(
                f"got weights {shapes} for layers of {widths}; expected one (below, above) between each two"
            )
        if relaxation < 1:
            raise ValueError(f"got relaxation={relaxation}; expected at least 1 step")
        self.weights = nn.ParameterList([nn.Parameter(w, requires_grad=False) for w in weights])
        self.biases = nn.ParameterList([nn.Parameter(b, requires_grad=False) for b in biases])
        self.relaxation, self.manifest = int(relaxation), dict(manifest or {})

    @classmethod
    @torch.no_grad()
    def learn(
        cls,
        patterns: Patterns | Float[Tensor, "n d"],
        *,
        hidden: Sequence[int] = (256, 256),
        passes: int = 200,
        rate: float = 2e-3,
        relaxation: int = 20,
        generator: torch.Generator | None = None,
    ) -> "PCStore":
        """Learn patterns by local errors, in batches of 50.

        Args:
            patterns: rows of about unit spread; weights of a store are not used.
            hidden: widths of the layers above the features.
            passes: through the patterns.
            rate: step of each weight in Adam's scaling, which is local too.
            relaxation: steps of the hidden layers before each change, and for each cue later.
            generator: of initial weights and order; None seeds one with 0.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape, no layer, or a number out of range.
            NonFiniteError: NaN or infinity.
        """
        rows = patterns.values if isinstance(patterns, Patterns) else patterns
        rows = states_of(rows, rows.shape[-1], "patterns").float()
        if not hidden or min(hidden) < 1 or passes < 1 or rate <= 0:
            raise ValueError(
                f"got hidden={tuple(hidden)}, passes={passes}, rate={rate}; expected a hidden layer, a "
                "pass, and a rate above 0"
            )
        source = generator or torch.Generator().manual_seed(0)
        widths = [rows.shape[1], *hidden]
        weights = [torch.randn(a, b, generator=source) / b**0.5 for a, b in zip(widths, widths[1:], strict=False)]
        settings = {"hidden": list(hidden), "passes": passes, "rate": rate, "patterns": len(rows)}
        manifest = {
            "method": "predictive coding",
            "seed": source.initial_seed(),
            "version": library_version(),
        } | settings
        made = cls(weights, [torch.zeros(w) for w in widths], relaxation=relaxation, manifest=manifest)
        optimiser = torch.optim.Adam(made.parameters(), lr=rate)
        for _ in range(passes):
            for chosen in torch.randperm(len(rows), generator=source).split(_BATCH):
                made._hebb(rows[chosen])
                optimiser.step()
        return made

    @property
    def d(self) -> int:
        """Number of features."""
        return len(self.biases[0])

    def errors(self, layers: Sequence[Float[Tensor, "b w"]]) -> list[Float[Tensor, "b w"]]:
        """Return what each layer is beyond its prediction from above; the top's is from its bias."""
        predicted = [above.tanh() @ w.T + b for above, w, b in zip(layers[1:], self.weights, self.biases, strict=False)]
        return [x - made for x, made in zip(layers, [*predicted, self.biases[-1]], strict=True)]

    @torch.no_grad()
    def relax(
        self,
        x: Float[Tensor, "b d"],
        *,
        hidden: Sequence[Float[Tensor, "b w"]] | None = None,
        steps: int | None = None,
        trust: float = 1.0,
    ) -> list[Float[Tensor, "b w"]]:
        """Return all layers after the hidden ones have relaxed with the features held.

        Args:
            x: features.
            hidden: where they begin; None begins with what the top's bias predicts.
            steps: None takes the store's.
            trust: weight of the error on the features.
        """
        layers = [x, *(self._dreamt(len(x)) if hidden is None else hidden)]
        for _ in range(self.relaxation if steps is None else steps):
            errors = self.errors(layers)
            errors[0] = trust * errors[0]
            for i in range(1, len(layers)):
                slope = 1 - layers[i].tanh().square()
                layers[i] = layers[i] - _STEP * (errors[i] - slope * (errors[i - 1] @ self.weights[i - 1]))
        return layers

    def energy(self, x: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Return `F` of states with the hidden layers relaxed.

        Raises:
            TypeError: no floating-point tensor.
            ValueError: another shape.
            NonFiniteError: NaN or infinity.
        """
        layers = self.relax(states_of(x, self.d, "states").float())
        return sum((0.5 * error.square().sum(1) for error in self.errors(layers)), torch.zeros(len(layers[0])))

    def recall(
        self,
        cue: Float[Tensor, "b d"],
        *,
        sigma: float = 0.0,
        known: Bool[Tensor, "#b d"] | None = None,
        sweeps: int = 100,
    ) -> Float[Tensor, "b d"]:
        """Return what the store makes of cues.

        Args:
            cue: one a row.
            sigma: spread of noise on it, in units of the patterns.
            known: features that are right and are held; the others are filled in, sweep by sweep. None projects once.
            sweeps: with gaps, how often they are filled; five steps of relaxation each.

        Raises:
            TypeError: no floating-point cue, or no boolean mask.
            ValueError: another shape, noise below 0, or no sweep.
            NonFiniteError: NaN or infinity.
        """
        rows = states_of(cue, self.d, "cue").float()
        held = known_of(known, rows)
        if not sigma >= 0 or sweeps < 1:
            raise ValueError(f"got sigma={sigma}, sweeps={sweeps}; expected noise from 0 and at least 1 sweep")
        trust = 1 / (1 + sigma**2)
        layers = self.relax(rows, trust=trust)
        if held is None:
            return self._predicted(layers)
        for _ in range(sweeps):
            filled = torch.where(held, rows, self._predicted(layers))
            layers = self.relax(filled, hidden=layers[1:], steps=_SETTLING, trust=trust)
        return torch.where(held, rows, self._predicted(layers))

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        tensors = {f"weights.{i}": w.detach() for i, w in enumerate(self.weights)}
        tensors |= {f"biases.{i}": b.detach() for i, b in enumerate(self.biases)}
        return Artifact(self.kind, {"relaxation": self.relaxation, "manifest": self.manifest}, tensors)

    @classmethod
    def unpack(cls, artifact: Artifact) -> "PCStore":
        """Rebuild from an artifact."""
        tensors, header = artifact.tensors, artifact.header
        count = sum(name.startswith("weights.") for name in tensors)
        weights = [tensors[f"weights.{i}"] for i in range(count)]
        biases = [tensors[f"biases.{i}"] for i in range(count + 1)]
        return cls(weights, biases, relaxation=header["relaxation"], manifest=header["manifest"])

    def _hebb(self, x: Tensor) -> None:
        """Leave with each weight the product of the error below it and the activity above, as a gradient."""
        layers = self.relax(x)
        errors = self.errors(layers)
        for i, weight in enumerate(self.weights):
            weight.grad = -errors[i].T @ layers[i + 1].tanh() / len(x)
        for bias, error in zip(self.biases, errors, strict=True):
            bias.grad = -error.mean(0)

    def _dreamt(self, count: int) -> list[Tensor]:
        """Return the hidden layers that the top's bias predicts."""
        layers = [self.biases[-1].expand(count, -1)]
        for i in range(len(self.weights) - 1, 0, -1):
            layers.insert(0, layers[0].tanh() @ self.weights[i].T + self.biases[i])
        return layers

    def _predicted(self, layers: Sequence[Tensor]) -> Tensor:
        return layers[1].tanh() @ self.weights[0].T + self.biases[0]
