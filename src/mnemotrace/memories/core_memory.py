r"""An episode as a core over a semantic memory: what is kept of it is exact, the rest is what usually goes with it.

Equation 25 wants a memory that holds features :math:`f(y) = \xi` of an episode and leaves all others to the semantic
memory :math:`\phi`. Three readings, of which the first is the default:

* conditional: the episode is the semantic memory restricted to its core, :math:`\mu = \phi(\cdot | f(y) = \xi)`. The
  kernel is a marginal of a diffusion, so posteriors are exact. Closed form for linear `f` and a Gaussian mixture;
* product: :math:`\log N(\xi; f(x), \sigma^2) + \log k_\phi(x)`. The right attractors, with the core pulled off by
  :math:`O(\sigma^2)`; no marginal of anything;
* additive, as printed with its signs put right: :math:`\log[e^{\beta f(x)^T \xi} + \int e^{\beta x^T y} d\phi(y)] -
  \tfrac\beta2 |x|^2`. Winner takes all, and without a lower bound as soon as :math:`\beta \lambda_{max}(S) > 1`, which
  raises.

With a function for `f` the condition is approximated by guidance,
:math:`\log k_\phi(x) - |f(\hat D(x)) - \xi|^2 / 2 r^2` with :math:`1/r^2 = 1/\sigma^2 + 1/s^2`, where `s` is the spread
of the semantic memory: the condition holds as the noise goes to 0, but neither the weight of the episode nor the spread
of the rest is exact, and `approximate` says so.

Reference: Ambrogioni 2024, equation 25; Chung et al. 2023, Diffusion posterior sampling. Cost: as `GaussianMixture`;
guidance differentiates through the semantic memory.
"""

# autograd has no types of its own
# pyright: reportUnknownMemberType=false

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mnemotrace.core.artifact import Artifact, within
from mnemotrace.core.errors import UnboundedEnergyError
from mnemotrace.memories.extended import vector
from mnemotrace.memories.gaussian import GaussianMixture
from mnemotrace.memories.kernels import Explained, checked, log_normal

Features = Bool[Tensor, " d"] | Float[Tensor, "w d"] | Callable[[Tensor], Tensor]
Form = Literal["conditional", "product", "additive"]


class Core(nn.Module):
    """What is kept of one episode, over a semantic memory.

    Attributes:
        f: `(w, d)`; empty for a function.
        function: of the features, where they are not linear; else None.
        xi: `(w,)` values of the features in the episode.
        prior: the semantic memory.
        form: the reading of equation 25.
        episode: the semantic memory restricted to the core; None unless the form is conditional and `f` linear.
    """

    kind = "core"
    f: Tensor
    xi: Tensor

    def __init__(
        self, f: Features, xi: Float[Tensor, " w"], prior: GaussianMixture, *, form: Form = "conditional"
    ) -> None:
        """Keep features of an episode.

        Args:
            f: a mask `(d,)` of the features that are kept, a matrix `(w, d)` of linear ones, or a function from `(b,
                d)` to `(b, w)` that autograd goes through.
            xi: their values.
            prior: the semantic memory.
            form: `conditional`; `product` and `additive` are for study.

        Raises:
            TypeError: no floating-point values, or another kind of prior.
            ValueError: shapes that do not fit, features that the prior fixes itself, an unknown form, or a function in
                a form that needs linear features.
            NonFiniteError: NaN or infinity.
        """
        super().__init__()
        if not isinstance(prior, GaussianMixture):
            raise TypeError(f"got a {type(prior).__name__} as prior; expected a GaussianMixture; fit_schema makes one")
        if form not in ("conditional", "product", "additive"):
            raise ValueError(f"got form={form!r}; expected 'conditional', 'product' or 'additive'")
        self.register_buffer("xi", vector(xi, "values of the core"))
        self.prior, self.form = prior, form
        if not isinstance(f, Tensor) and not (callable(f) and form == "conditional"):
            raise ValueError(f"got a {type(f).__name__} as features of the {form} form; expected a mask or a matrix")
        self.function = None if isinstance(f, Tensor) else f
        self.register_buffer(
            "f", _matrix(f, self.xi, prior) if isinstance(f, Tensor) else self.xi.new_zeros(0, prior.d)
        )
        exact = form == "conditional" and self.function is None
        self.episode = prior.conditioned(self.f, self.xi) if exact else None

    @property
    def d(self) -> int:
        """Number of features."""
        return self.prior.d

    @property
    def approximate(self) -> bool:
        """Whether the kernel is no marginal of a diffusion: guided, or of another form than the conditional one."""
        return self.episode is None

    @property
    def fixed(self) -> Bool[Tensor, " d"]:
        """Features that the core fixes; the others are left to the semantic memory."""
        if self.episode is not None:
            return self.episode.fixed
        return torch.zeros(self.d, dtype=torch.bool, device=self.xi.device)

    def explain(self, x: Float[Tensor, "b d"], sigma: Any) -> Explained:
        """Return log-kernel and expected pattern of states.

        Raises:
            ValueError: infinite noise where the expected pattern is a gradient.
            UnboundedEnergyError: the additive form below the noise at which its energy has a lower bound.
        """
        if self.episode is not None:
            return self.episode.explain(x, sigma)
        x, sigma = checked(x, sigma, self.d)
        if bool(sigma.isinf().any()):
            raise ValueError(
                "got infinite noise for a core that is approximate or not conditional; expected finite noise; give ten "
                "times the spread of the patterns"
            )
        graph = torch.is_grad_enabled() and x.requires_grad
        with torch.enable_grad():
            state = x if graph else x.detach().requires_grad_()
            log = self._log(state, sigma)
            (slope,) = torch.autograd.grad(log.sum(), state, create_graph=graph)
        log = log if graph else log.detach()
        return Explained(log, x + sigma.square() * slope)

    def log_kernel(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, " b"]:
        """Return the log-density of noisy states; up to a constant where it is approximate or not conditional."""
        return self.explain(x, sigma).log_kernel

    def forward(self, x: Float[Tensor, "b d"], sigma: Any) -> Float[Tensor, "b d"]:
        """Return the expected clean pattern."""
        return self.explain(x, sigma).mean

    def _log(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self.function is not None:
            return self._guided(self.function, x, sigma)
        f, xi = self.f.to(x), self.xi.to(x)
        if self.form == "product":
            noise = (sigma.square().expand(-1, self.d) @ f.square().T).sqrt()
            return log_normal(x @ f.T - xi, noise) + self.prior.log_kernel(x, sigma)
        return self._additive(x, sigma, x @ f.T @ xi)

    def _guided(self, function: Callable[[Tensor], Tensor], x: Tensor, sigma: Tensor) -> Tensor:
        semantic = self.prior.explain(x, sigma)
        found: Any = function(semantic.mean)
        if not isinstance(found, Tensor) or found.shape != (len(x), len(self.xi)):
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"got {shape} from the features of {len(x)} states; expected {(len(x), len(self.xi))}")
        precision = (sigma**-2).mean(1) + 1 / self.prior.covariance.diagonal().mean().to(x)
        return semantic.log_kernel - 0.5 * precision * (found - self.xi.to(x)).square().sum(1)

    def _additive(self, x: Tensor, sigma: Tensor, overlap: Tensor) -> Tensor:
        """Equation 25 as printed, with the minus in the exponent gone and the square of the state added."""
        beta = sigma[:, 0].double() ** -2
        largest = float(torch.linalg.eigvalsh(self.prior.covariances.double()).max())
        if bool((sigma != sigma[:, :1]).any()):
            raise ValueError("got noise that differs between features for the additive form; expected one number")
        if float(beta.max()) * largest > 1:
            raise UnboundedEnergyError(
                f"got beta * lambda_max = {float(beta.max()) * largest:.3g} in the additive form of equation 25, whose "
                f"energy then has no lower bound; expected at most 1, so sigma >= {largest**0.5:.3g}; use the "
                "conditional form"
            )
        wide, prior = x.double(), self.prior
        means, covariances = prior.means.double(), prior.covariances.double()
        quadratic = torch.einsum("bi,nij,bj->bn", wide, covariances, wide)
        log = beta[:, None] * (wide @ means.T) + 0.5 * beta.square()[:, None] * quadratic + prior.weights.double().log()
        total = torch.logaddexp(beta * overlap.double(), torch.logsumexp(log, 1))
        return (total - 0.5 * beta * wide.square().sum(1)).to(x)

    def pack(self) -> Artifact:
        """Turn into an artifact.

        Raises:
            TypeError: the features are a function, which no file can hold.
        """
        if self.function is not None:
            raise TypeError("got a Core with a function for its features; expected a mask or a matrix to save it")
        prior = {f"prior.{name}": tensor for name, tensor in self.prior.pack().tensors.items()}
        return Artifact(self.kind, {"form": self.form}, {"f": self.f, "xi": self.xi, **prior})

    @classmethod
    def unpack(cls, artifact: Artifact) -> "Core":
        """Rebuild from an artifact."""
        tensors = artifact.tensors
        nested = within(tensors, "prior.")
        prior = GaussianMixture.unpack(Artifact(GaussianMixture.kind, {}, nested))
        return cls(tensors["f"], tensors["xi"], prior, form=artifact.header["form"])


def _matrix(f: Tensor, xi: Tensor, prior: GaussianMixture) -> Tensor:
    """Return features as `(w, d)`, from a mask or a matrix."""
    if f.dtype == torch.bool and f.shape == (prior.d,):
        f = torch.eye(prior.d, dtype=xi.dtype, device=xi.device)[f]
    if f.ndim != 2 or f.shape != (len(xi), prior.d) or not f.is_floating_point():
        raise ValueError(
            f"got features {tuple(f.shape)} of {f.dtype} for {len(xi)} values; expected a boolean mask ({prior.d},) "
            f"with {len(xi)} True, or a floating-point matrix ({len(xi)}, {prior.d})"
        )
    return f.detach().to(xi)
