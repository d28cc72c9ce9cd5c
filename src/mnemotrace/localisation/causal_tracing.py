r"""Causal tracing: corrupt the subject of a fact, put back one part of the clean run, and see whether the fact returns.

The embeddings of the subject's tokens get noise `N(0, (noise * s)^2)`, with `s` the standard deviation over all entries
of the embeddings of all subjects. Then, with the same noise, one thing is put back at one token `t`: the state after
block `l`, or what the MLP (or attention) gives in the `window` of blocks `[max(0, l - w/2), min(L, l + w/2))`, or the
state while the MLP (or attention) at that token is held at its corrupted output in all later blocks ("severed").
Reference: Meng et al. 2022, "Locating and editing factual associations in GPT", section 2 and appendix B.

Exact, and cheaper than one forward pass a cell: blocks before a restoration are those of the corrupted run, columns
before its token too, restorations at one token ride in one batch (`wavefront`), and only the answer's positions are
read out. Tokens before the subject have an effect of exactly 0 and are not run.

Cost a fact: about `draws * T^2 / 2 * L / 2` blocks a column for states. Memory: hidden states and keys and values of
`draws` rows, the hidden states of `L * draws` rows, and the inside of one block and the logits of `max_rows` rows.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from mnemotrace.adapters.decoder import Decoder, decoder, first_of
from mnemotrace.adapters.facts import Fact, Tokens, last_mention, located, tokens_of
from mnemotrace.adapters.hooks import evaluating, patch
from mnemotrace.adapters.replay import Kept, keep, logits
from mnemotrace.core.artifact import Artifact, fingerprint, library_version, read, write
from mnemotrace.core.linalg import require_finite
from mnemotrace.core.progress import Progress, silent
from mnemotrace.localisation.causal_trace import CausalTrace, Kind, Record, pack_records, unpack_records
from mnemotrace.localisation.wavefront import Place, Restored, Span, wavefront

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Where = Literal["all", "subject_last", "lookup"]
MAX_ROWS = 128
_FINITE = "the answer's log-probabilities; look for NaN in the weights, or use less noise"
_PARTS = ("mlp", "attention")
_SEVERED = {"state_without_mlp": "mlp", "state_without_attention": "attention"}


def trace(
    model: nn.Module,
    tokenizer: "PreTrainedTokenizerBase",
    facts: Fact | Sequence[Fact],
    *,
    kinds: Sequence[Kind] = ("state", "mlp", "attention"),
    noise: float = 3.0,
    draws: int = 10,
    window: int | None = None,
    positions: Where = "all",
    control: bool = False,
    max_rows: int = MAX_ROWS,
    generator: torch.Generator | None = None,
    checkpoint: str | Path | None = None,
    every: int = 10,
    progress: Progress | None = None,
) -> CausalTrace:
    """Trace where facts pass through a causal language model.

    Args:
        model: of Hugging Face transformers, of any decoder layout; it is left as it was.
        tokenizer: of the model; a fast one.
        facts: prompts with subjects, which are proposed where they are missing. An answer that is None becomes the
            likeliest next token; an answer of several tokens is judged by their joint probability.
        kinds: what is put back: `state`, `mlp`, `attention`, or `state_without_mlp`, `state_without_attention`, where
            that part is held at its corrupted output at the token.
        noise: size of the corruption in standard deviations of the subjects' embeddings.
        draws: how many times noise is drawn; the same draws serve all cells of a fact.
        window: blocks that `mlp` and `attention` span. None is the published 10, but at most a quarter of the blocks:
            a window as wide as the network tells no layers apart.
        positions: which tokens of the prompt: all, only the last one of the subject, or the two where facts are looked
            up (`lookup`): the last ones of the subject and of the prompt.
        control: measure everything again with what is put back taken from the same prompt about the subject of
            another of the facts, of as many tokens: what any subject would do.
        max_rows: rows that go through a block at once; fewer need less memory.
        generator: of the noise; None seeds one with 0.
        checkpoint: a file to write finished facts to. If it exists, tracing goes on where it stopped; the result is
            the same, bit for bit.
        every: facts between checkpoints.
        progress: called after each fact.

    Returns:
        The maps of all facts that the network knows; the others are named in the log and the manifest.

    Raises:
        TypeError: the network is no causal decoder, or keeps more of the past than keys and values.
        ValueError: no facts, an unknown kind, a number out of range, a subject or answer without tokens, a slow
            tokenizer, a control without a second subject, or no fact that the network knows.
        NonFiniteError: the network gives NaN or infinity.
    """
    chosen = [facts] if isinstance(facts, Fact) else list(facts)
    _check(chosen, kinds, noise=noise, draws=draws, window=window, positions=positions, max_rows=max_rows)
    parts = decoder(model)
    width = window or min(10, max(1, parts.layers // 4))
    asked = [located(fact) for fact in chosen]
    spans = [tokens_of(tokenizer, fact, fact.answer) for fact in asked]
    strangers = _strangers(tokenizer, asked, spans) if control else [None] * len(asked)
    seeds = torch.randint(2**62, (len(asked),), generator=generator or torch.Generator().manual_seed(0)).tolist()
    with evaluating(model):
        scale = noise * _deviation(parts, spans)
        manifest = {
            "method": "causal tracing", "base": fingerprint(model), "kinds": list(kinds), "noise": noise,
            "scale": scale, "draws": draws, "window": width, "positions": positions, "control": control,
            "version": library_version(),
        }  # fmt: skip
        tracer = _Tracer(parts, tokenizer, tuple(kinds), scale, draws, width, positions, max_rows)
        run = {**manifest, "facts": [fact.to_json() for fact in asked], "seeds": seeds}
        found, unknown = _resume(checkpoint, run)
        for index in range(len(found) + len(unknown), len(asked)):
            fact = asked[index]
            record = tracer.record(fact, spans[index], strangers[index], seeds[index])
            if record is None:
                log.warning("the network does not answer %r with %r; left out", fact.prompt, fact.answer)
                unknown.append(fact.prompt)
            else:
                found.append(record)
            if checkpoint is not None and (index + 1) % every == 0:
                _store(checkpoint, run, found, unknown)
            (progress or silent)(index + 1, len(asked), "facts")
    if not found:
        raise ValueError(
            f"got {len(asked)} facts, none of which the network knows; expected some that it answers rightly, as in "
            f"{asked[0].prompt!r}; leave the answers out to trace what it says instead"
        )
    if checkpoint is not None:
        Path(checkpoint).unlink(missing_ok=True)
    return CausalTrace(tuple(found), width, {**manifest, "unknown": unknown})


@dataclass(frozen=True, eq=False)
class _Source:
    """A run that values are taken from, with what its attention and MLPs gave, `(L, rows, t, d)`."""

    kept: Kept
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class _Tracer:
    """One way of tracing, for any fact."""

    decoder: Decoder
    tokenizer: "PreTrainedTokenizerBase"
    kinds: tuple[str, ...]
    scale: float
    draws: int
    window: int
    positions: Where
    max_rows: int

    def record(self, fact: Fact, tokens: Tokens, stranger: "tuple[str, Tokens] | None", seed: int) -> Record | None:
        """Measure a fact; None when the network does not know it."""
        clean = self._run(tokens)
        scores = logits(self.decoder, clean.kept.hidden[-1][:, tokens.prompt - 1 :])[0]
        require_finite(scores.float().logsumexp(-1), _FINITE)
        said = scores.argmax(-1).tolist() if tokens.answer else [int(scores[-1].argmax())]
        if tokens.answer and said != list(tokens.answer):
            return None
        answer = torch.tensor(said, device=scores.device)
        noise = torch.randn(self.draws, *self._size(tokens), generator=torch.Generator().manual_seed(seed))
        corrupted = self._run(tokens, noise * self.scale)
        low = self._read(corrupted.kept.hidden[-1], answer)
        sources = [clean] if stranger is None else [clean, self._run(stranger[1])]
        maps = self._maps(sources, corrupted, tokens, answer, low)
        ids = tokens.ids[: tokens.prompt]
        return Record(
            prompt=fact.prompt,
            subject=str(fact.subject),
            answer=str(self.tokenizer.decode(said)).strip(),
            tokens=tuple(str(self.tokenizer.decode([token])) for token in ids),
            ids=ids,
            subject_range=tokens.subject,
            clean=float(self._read(clean.kept.hidden[-1], answer)),
            corrupted=low,
            restored=maps[0],
            control=maps[1] if stranger else {},
            stranger=stranger[0] if stranger else None,
        )

    def _size(self, tokens: Tokens) -> tuple[int, int]:
        return tokens.subject[1] - tokens.subject[0], self.decoder.d

    def _run(self, tokens: Tokens, noise: Tensor | None = None) -> _Source:
        """Run a prompt with all of its answer but the last token, with noise on the subject if there is any."""
        fed = tokens.ids[:-1] if tokens.answer else tokens.ids
        ids = torch.tensor(fed, device=_embedding(self.decoder).weight.device)[None]

        def corrupt(embedded: Tensor) -> Tensor:
            embedded = embedded.clone()
            embedded[:, slice(*tokens.subject)] += noise.to(embedded) if noise is not None else 0
            return embedded

        if noise is None:
            changes, kinds = {}, [kind for kind in self.kinds if kind in _PARTS]
        else:
            changes = {self.decoder.embedding: corrupt}
            ids, kinds = ids.expand(self.draws, -1), [_SEVERED[kind] for kind in self.kinds if kind in _SEVERED]
        with _captured(self.decoder, kinds) as seen, patch(self.decoder.model, changes):
            kept = keep(self.decoder, ids)
        parts = {kind: torch.stack(list(given.values())) for kind, given in seen.items()}
        return _Source(kept, {kind: given.view(len(given), *kept.hidden[0].shape) for kind, given in parts.items()})

    def _maps(
        self, sources: Sequence[_Source], corrupted: _Source, tokens: Tokens, answer: Tensor, low: Tensor
    ) -> list[dict[str, Tensor]]:
        """Return for each source and kind `(draws, t, l)` log-probabilities."""
        b, e = tokens.subject
        layers = self.decoder.layers
        empty = torch.full((self.draws, tokens.prompt, layers), torch.nan)
        if self.positions == "all":
            empty[:, :b] = low[:, None, None]
        maps = [{kind: empty.clone() for kind in self.kinds} for _ in sources]
        tail = corrupted.kept.suffix(tokens.prompt - 1)
        chosen = {"all": range(b, tokens.prompt), "subject_last": [e - 1], "lookup": {e - 1, tokens.prompt - 1}}
        for position in chosen[self.positions]:
            place = Place(corrupted.kept.suffix(position), tail, self.max_rows)
            for source, found in zip(sources, maps, strict=True):
                for kind in self.kinds:
                    spans = [self._span(kind, layer) for layer in range(layers)]
                    restored = self._restored(kind, source, corrupted, position)
                    runs, hidden = wavefront(place, spans, restored)
                    values = self._read(hidden, answer).view(len(runs), self.draws)
                    for run, value in zip(runs, values, strict=True):
                        found[kind][:, position, run] = value[:, None]
        return maps

    def _span(self, kind: str, layer: int) -> Span:
        if kind in _PARTS:
            return Span(max(0, layer - self.window // 2), min(self.decoder.layers, layer - (-self.window // 2)))
        return Span(layer + 1, self.decoder.layers if kind in _SEVERED else layer + 1)

    def _restored(self, kind: str, source: _Source, corrupted: _Source, position: int) -> Restored:
        if kind in _PARTS:
            return Restored(None, getattr(self.decoder, kind), source.parts[kind][:, :, position])
        states = torch.stack([hidden[0, position] for hidden in source.kept.hidden])
        if kind == "state":
            return Restored(states)
        held = _SEVERED[kind]
        return Restored(states, getattr(self.decoder, held), corrupted.parts[held][:, :, position])

    def _read(self, hidden: Tensor, answer: Tensor) -> Tensor:
        """Return the joint log-probability of an answer in each row; float32, for it is one sum over the vocabulary."""
        found: list[Tensor] = []
        for rows in hidden[:, -len(answer) :].split(self.max_rows):
            scores = logits(self.decoder, rows).float()
            own = scores.gather(-1, answer.expand(len(rows), -1)[..., None])[..., 0]
            found.append((own - scores.logsumexp(-1)).sum(-1))
        values = torch.cat(found).cpu()
        require_finite(values, _FINITE)
        return values


@contextmanager
def _captured(parts: Decoder, kinds: Sequence[str]) -> Iterator[dict[str, dict[int, Tensor]]]:
    """Collect what attention or MLPs give inside the block, by kind and layer."""
    read: dict[str, dict[int, Tensor]] = {kind: {} for kind in kinds}
    with ExitStack() as stack:
        for kind, seen in read.items():
            for layer, name in enumerate(getattr(parts, kind)):
                hook = parts.model.get_submodule(name).register_forward_hook(_keeper(seen, layer))
                stack.callback(hook.remove)
        yield read


def _keeper(seen: dict[int, Tensor], layer: int) -> Any:
    def hook(_: nn.Module, __: Any, output: Any) -> None:
        given = first_of(output)
        if given is not None:
            seen[layer] = given.clone()  # some blocks add to it in place

    return hook


def _embedding(parts: Decoder) -> Any:
    return parts.model.get_submodule(parts.embedding)


def _deviation(parts: Decoder, facts: Sequence[Tokens]) -> float:
    """Return the standard deviation over all entries of the embeddings of all subjects."""
    ids = [token for tokens in facts for token in tokens.ids[slice(*tokens.subject)]]
    embedding = _embedding(parts)
    deviation = float(embedding(torch.tensor(ids, device=embedding.weight.device)).double().std())
    require_finite(torch.tensor(deviation), "the embeddings of the subjects; look for NaN in the weights")
    return deviation


def _strangers(
    tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact], read: Sequence[Tokens]
) -> "list[tuple[str, Tokens] | None]":
    """Find for each fact another subject that makes its prompt exactly as long.

    Raises:
        ValueError: there is none for any fact.
    """
    found = [_stranger(tokenizer, facts, index, read[index]) for index in range(len(facts))]
    if not any(found):
        raise ValueError(
            f"got control=True and {len(facts)} facts, none with another's subject of as many tokens; expected at "
            "least two such subjects; give more facts, or trace without a control"
        )
    for fact, stranger in zip(facts, found, strict=True):
        if stranger is None:
            log.warning("no other subject has as many tokens as that of %r; traced without a control", fact.prompt)
    return found


def _stranger(
    tokenizer: "PreTrainedTokenizerBase", facts: Sequence[Fact], index: int, read: Tokens
) -> "tuple[str, Tokens] | None":
    fact = facts[index]
    own = str(fact.subject)
    begin = last_mention(fact.prompt, own)
    head, tail = fact.prompt[:begin], fact.prompt[begin + len(own) :]
    for other in (*facts[index + 1 :], *facts[:index]):
        subject = str(other.subject)
        if subject != own:
            swapped = replace(fact, prompt=f"{head}{subject}{tail}", subject=subject)
            tokens = tokens_of(tokenizer, swapped, fact.answer)
            if (len(tokens.ids), tokens.subject) == (len(read.ids), read.subject):
                return subject, tokens
    return None


def _check(facts: Sequence[Fact], kinds: Sequence[str], positions: str, **numbers: float | None) -> None:
    if not facts or not all(isinstance(fact, Fact) for fact in facts):
        what = f"a {next(type(f).__name__ for f in facts if not isinstance(f, Fact))}" if facts else "no facts"
        raise ValueError(f"got {what}; expected at least one Fact; make one with Fact(prompt, subject, answer)")
    unknown = [kind for kind in kinds if kind not in get_args(Kind)]
    if unknown or not kinds or isinstance(kinds, str):
        raise ValueError(
            f"got kinds={kinds!r}; expected some of {', '.join(get_args(Kind))}, in a list; spell them like this"
        )
    if positions not in get_args(Where):
        raise ValueError(f"got positions={positions!r}; expected one of {', '.join(get_args(Where))}")
    for name, least in (("draws", 1), ("window", 1), ("max_rows", 1)):
        value = numbers[name]
        if value is not None and not value >= least:
            raise ValueError(f"got {name}={value}; expected at least {least}")
    noise = numbers["noise"]
    if noise is None or not 0 < noise < float("inf"):
        raise ValueError(f"got noise={noise}; expected more than 0 standard deviations; 3 is what was published")


def _resume(checkpoint: str | Path | None, run: Mapping[str, Any]) -> tuple[list[Record], list[str]]:
    """Return what a checkpoint holds: records of known facts, and the prompts of unknown ones."""
    if checkpoint is None or not Path(checkpoint).exists():
        return [], []
    artifact = read(checkpoint, "tracing")
    if artifact.header["run"] != json.loads(json.dumps(run)):
        raise ValueError(
            f"got a checkpoint {checkpoint} of another run; expected the same model, facts and settings; delete it to "
            "start over"
        )
    return unpack_records(artifact.header["records"], artifact.tensors), list(artifact.header["unknown"])


def _store(checkpoint: str | Path, run: Mapping[str, Any], found: Sequence[Record], unknown: Sequence[str]) -> None:
    records, tensors = pack_records(found)
    write(Artifact("tracing", {"run": dict(run), "records": records, "unknown": list(unknown)}, tensors), checkpoint)
