"""Errors and warnings that a caller may want to catch.

Ordinary mistakes raise `ValueError` or `TypeError`; the classes here derive from them, so that
`except ValueError` still works, and share the base `MnemotraceError`. Every message says what came,
what was expected and what to do, in that order.
"""


class MnemotraceError(Exception):
    """Base of the library's own errors."""


class SelectionError(MnemotraceError, ValueError):
    """A selection matched nothing, or matched something that cannot be edited."""


class NonFiniteError(MnemotraceError, ValueError):
    """NaN or infinity where a finite number is needed."""


class ArtifactError(MnemotraceError, ValueError):
    """A file is not the artifact that was asked for, or is damaged."""


class EditError(MnemotraceError, ValueError):
    """An edit does not fit the model; the model was left untouched."""


class UnboundedEnergyError(MnemotraceError, ValueError):
    """An energy has no lower bound at this noise, so nothing can come to rest in it."""


class ProtocolError(MnemotraceError, ValueError):
    """Test data had a part in what is tested."""


class NumericalWarning(UserWarning):
    """A number that the caller should look at: rank dropped, condition, update norm, rounding loss."""


class ReplayCollapse(NumericalWarning):  # noqa: N818
    """Replay goes to a few episodes only, and the cortex forgets the others."""


class SourceIgnored(NumericalWarning):  # noqa: N818
    """A recall gives the same picture without its source: what it shows comes from the trace."""
