r"""Beliefs about causes, and what is remembered because of them.

Evidence - observed, or set from outside - changes how probable each causal graph is; graphs that it speaks against are
laid aside; and memories that were explained by them are told anew, while what was observed stays. That is the
denouement of a plot: the last scene changes what the first one meant.

Up to six variables the posterior is exact, over all graphs or over the plots that you give. Beyond, it is a sample of
graphs (`method="order"`, Friedman and Koller 2003) or of bootstrapped searches (`"search"`), and says so.

Cost: exact, one table of families and a gather an update: 15 ms for four variables, 30 ms for five, 0.4 s for six; the
file holds evidence and log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemotrace.core.artifact import Artifact, library_version
from mnemotrace.modification.beliefs.accounts import Account, Version, checked
from mnemotrace.modification.beliefs.dags import LARGEST, DAGs, edges_of, enumerate_dags
from mnemotrace.modification.beliefs.elimination import Tombstones, require_rule
from mnemotrace.modification.beliefs.evidence import Evidence
from mnemotrace.modification.beliefs.exact import entropy_bits
from mnemotrace.modification.beliefs.families import BDeu, BGe, family_table
from mnemotrace.modification.beliefs.ledger import Act, Update, named
from mnemotrace.modification.beliefs.plots import plots_of, prior_of, with_tuples
from mnemotrace.modification.beliefs.questions import Question, ask
from mnemotrace.modification.beliefs.reading import Variables
from mnemotrace.modification.beliefs.retelling import retold, support, supported
from mnemotrace.modification.beliefs.weighing import Exact, Sampled

Method = Literal["auto", "exact", "order", "search"]
Edge = tuple[str, str]


class Beliefs:
    """A posterior over causal graphs, the memories that rest on it, and the log of both.

    Attributes:
        variables: names and their states.
        log: every act, in order.
        settings: what it was made with.
    """

    kind = "beliefs"

    def __init__(
        self,
        variables: Mapping[str, Sequence[str]] | Sequence[str],
        *,
        score: Literal["bdeu", "bge"] | None = None,
        ess: float = 1.0,
        graphs: Sequence[Sequence[Edge]] | None = None,
        log_prior: Sequence[float] | None = None,
        method: Method = "auto",
        kappa: float = 6.0,
        patience: int = 2,
        max_parents: int = 3,
        seed: int = 0,
    ) -> None:
        """Begin with the prior.

        Args:
            variables: name to states, or only names of variables that are numbers (standardised ones).
            score: `bdeu` for states, `bge` for numbers; None follows from the variables.
            ess: equivalent sample size of the prior of BDeu.
            graphs: the plots that are possible, each a list of edges (cause, effect); None takes all graphs.
            log_prior: of each graph, up to a constant; None counts all alike.
            method: `exact` up to six variables; `order` or `search` beyond; `auto` chooses.
            kappa: log10 of the Bayes factor by which the best graph must lead for another to be laid aside.
            patience: updates on end in which it must.
            max_parents: of the approximate methods.
            seed: of the approximate methods.

        Raises:
            ValueError: no variable, one state only, plots with cycles, or settings out of range.
        """
        self.settings: dict[str, Any] = {
            "variables": {n: list(s) for n, s in dict(variables).items()} if isinstance(variables, Mapping)
            else list(variables),
            "score": score, "ess": ess, "method": method, "kappa": kappa, "patience": patience,
            "graphs": None if graphs is None else [[list(edge) for edge in plot] for plot in graphs],
            "log_prior": None if log_prior is None else [float(one) for one in log_prior],
            "max_parents": max_parents, "seed": seed,
        }  # fmt: skip
        require_rule(kappa, patience)
        self.variables = Variables.of(variables, score)
        self.score = BGe(self.variables.p) if self.variables.continuous else BDeu(self.variables.arities, ess)
        self._weighed = self._prior_weights(graphs, log_prior)
        self.log: tuple[Act, ...] = ()
        self._accounts: tuple[Account, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables."""
        return self.variables.names

    @property
    def approximate(self) -> bool:
        """Whether the posterior is a sample."""
        return isinstance(self._weighed, Sampled)

    @property
    def time(self) -> int:
        """Number of acts so far."""
        return len(self.log)

    # --- what is believed -----------------------------------------------------------------------------------------

    @property
    def evidence(self) -> Evidence:
        """All rows so far."""
        return self._weighed.evidence

    @property
    def tombstones(self) -> Tombstones:
        """Which graphs are laid aside."""
        return self._weighed.tombstones

    @property
    def graphs(self) -> DAGs:
        """What may hold: all graphs, the plots given, or a sample."""
        return self._weighed.graphs

    @property
    def posterior(self) -> Float[Tensor, " G"]:
        """Probability of each graph; 0 for those laid aside."""
        return self._weighed.weights

    @property
    def entropy(self) -> float:
        """Of the posterior, in bits."""
        return entropy_bits(self.posterior)

    def edges(self) -> Float[Tensor, "p p"]:
        """Return the probability of each edge, `[from, to]`."""
        return self._weighed.edges

    def edge(self, cause: str, effect: str) -> float:
        """Return the probability of one edge."""
        return float(self.edges()[self.variables.index(cause), self.variables.index(effect)])

    def probabilities(self) -> dict[Edge, float]:
        """Return the probability of each edge by (cause, effect)."""
        table = self.edges()
        return {
            (a, b): float(table[i, j]) for i, a in enumerate(self.names) for j, b in enumerate(self.names) if i != j
        }

    def best(self) -> tuple[Edge, ...]:
        """Return the edges of the most probable graph."""
        graphs = self.graphs
        return named(edges_of(graphs.parents[int(self.posterior.argmax())].tolist()), self.names)

    def support(self, edges: Sequence[Edge]) -> float:
        """Return the probability that all of some edges hold."""
        for edge in edges:
            for name in edge:
                self.variables.index(name)
        return support(edges, self.names, self.graphs, self.posterior)

    # --- what changes it ------------------------------------------------------------------------------------------

    def observe(self, rows: Any, *, do: Sequence[str] | str = (), note: str = "") -> Update:
        """Take evidence in.

        Args:
            rows: `(n, p)` states as integers or numbers, or a list of `{name: state}`, with all variables in each.
            do: variables that were set from outside in all these rows.
            note: of where it comes from.

        Returns:
            What it changed.

        Raises:
            TypeError: no rows.
            ValueError: no row, a variable or state that is not there, or one that is missing.
            NonFiniteError: NaN or infinity.
        """
        chosen = (do,) if isinstance(do, str) else tuple(do)
        values = self.variables.read(rows)
        more = Evidence.observed(values, do=[self.variables.index(name) for name in chosen])
        self.score.local(more, 0, [0])  # refuses states that no variable has
        rule = {"kappa": self.settings["kappa"], "patience": self.settings["patience"]}
        self._weighed, shift = self._weighed.after(self.evidence + more, **rule)
        revised = self._denouement()
        edges = tuple(tuple(row) for row in self.edges().tolist())
        update = Update(
            self.time + 1, **vars(shift), entropy=self.entropy, revised=revised, best=self.best(), edges=edges
        )
        self._record("observe", {"rows": values.tolist(), "do": list(chosen), "note": note}, update.to_json())
        return update

    def remember(self, facts: Mapping[str, str], *, explains: Mapping[str, Sequence[str] | str], note: str = "") -> int:
        """Keep a memory of what happened and why; returns its number.

        Args:
            facts: variable to state, as observed; never rewritten.
            explains: effect to its cause or causes.
            note: of what it is.

        Raises:
            ValueError: names or states that are not there, or nothing explained.
        """
        found = checked(facts, explains, self.names)
        self.variables.require_states(facts)
        version = Version(found, self.time + 1, self._supported(found), "remembered")
        account = Account(len(self._accounts), facts, (version,), note)
        self._accounts = (*self._accounts, account)
        given = {"facts": dict(facts), "explains": {e: list(c) for e, c in found.items()}, "note": note}
        self._record("remember", given, {"id": account.id, "support": version.support})
        return account.id

    def restore(self, id: int, version: int = 0) -> Account:
        """Tell a memory again as in an earlier version; the next evidence may revise it again.

        Raises:
            KeyError: no such memory.
            IndexError: no such version.
        """
        account = self.memory(id)
        earlier = account.versions[version]
        told = replace(earlier, time=self.time + 1, support=self._supported(earlier.explains), reason="restored")
        self._keep(account.told(told))
        self._record("restore", {"id": id, "version": version}, {"support": told.support})
        return self.memory(id)

    def audit(self, kappa: float | None = None) -> int:
        """Score all graphs that were laid aside again; returns how many come back.

        Args:
            kappa: log10 of the factor within which they do; None takes the one they were laid aside by, infinity
                brings all back.
        """
        if isinstance(self._weighed, Sampled):
            return 0
        bound = self.settings["kappa"] if kappa is None else kappa
        require_rule(bound, 1)
        before = self.tombstones.dead.sum()
        self._weighed = self._weighed.audited(bound)
        count = int(before - self.tombstones.dead.sum())
        revised = self._denouement()
        given = {"kappa": None if kappa is None else str(kappa)}
        self._record("audit", given, {"readmitted": count, "revised": list(revised), "entropy": self.entropy})
        return count

    def undo(self) -> Act:
        """Take the last act back, exactly: all others are lived again from the log.

        Raises:
            ValueError: nothing to take back.
        """
        if not self.log:
            raise ValueError("got no act to take back; expected at least one; the log is empty")
        last = self.log[-1]
        self.__dict__.update(Beliefs.replay(self.settings, self.log[:-1]).__dict__)
        return last

    @classmethod
    def replay(cls, settings: Mapping[str, Any], log: Sequence[Act]) -> Beliefs:
        """Live a log again from the prior; posterior and memories come out bit for bit."""
        made = cls(**{**settings, "graphs": with_tuples(settings["graphs"])})
        for act in log:
            given = dict(act.given)
            if act.name == "audit" and given["kappa"] is not None:
                given["kappa"] = float(given["kappa"])
            if act.name == "observe":
                given["rows"] = torch.tensor(given["rows"], dtype=made.evidence.values.dtype)
            getattr(made, act.name)(**given)
        return made

    # --- what is remembered, and what to ask ------------------------------------------------------------------------

    @property
    def memories(self) -> tuple[Account, ...]:
        """All memories, as they are told now."""
        return self._accounts

    def memory(self, id: int) -> Account:
        """Return one memory.

        Raises:
            KeyError: no such number.
        """
        if not 0 <= id < len(self._accounts):
            raise KeyError(f"got memory {id}; expected a number below {len(self._accounts)}")
        return self._accounts[id]

    def versions(self, id: int) -> tuple[Version, ...]:
        """Return all tellings of a memory, the first one first."""
        return self.memory(id).versions

    def next_question(self, candidates: Sequence[tuple[str, str] | None] | None = None) -> Question:
        """Find the intervention that is expected to tell most.

        Args:
            candidates: (variable, state) to choose among, None among them is to look only; all by default.

        Raises:
            ValueError: an approximate posterior, numbers instead of states, or too many joint states.
        """
        if self.approximate or not isinstance(self.score, BDeu):
            raise ValueError("got an approximate posterior or numbers; expected states and method='exact'")
        asked = [None, *self.variables.settings()] if candidates is None else list(candidates)
        if not asked:
            raise ValueError("got no candidate; expected at least one (variable, state), or None to look only")
        places = {one: None if one is None else self.variables.setting(*one) for one in asked}
        return ask(self.score, self.evidence, self.graphs, self.posterior, places)

    # --- files ----------------------------------------------------------------------------------------------------

    def pack(self) -> Artifact:
        """Turn into an artifact."""
        header = {
            "settings": self.settings | {"kappa": str(self.settings["kappa"])},
            "names": list(self.names),
            "log": [act.to_json() for act in self.log],
            "memories": [account.to_json() for account in self._accounts],
            "edges": self.edges().tolist(),
            "entropy": self.entropy,
            "graphs": [len(self.graphs), int(self.tombstones.dead.sum())],
            "approximate": self.approximate,
            "manifest": {"method": "beliefs", "seed": self.settings["seed"], "version": library_version()},
        }
        tensors = {"dead": self.tombstones.dead, "streak": self.tombstones.streak}
        return Artifact(self.kind, header, tensors | {"values": self.evidence.values, "set": self.evidence.intervened})

    @classmethod
    def unpack(cls, artifact: Artifact) -> Beliefs:
        """Rebuild from an artifact."""
        header, tensors = artifact.header, artifact.tensors
        settings = {**header["settings"], "kappa": float(header["settings"]["kappa"])}
        made = cls(**{**settings, "graphs": with_tuples(settings["graphs"])})
        stones = Tombstones(tensors["dead"], tensors["streak"])
        evidence = Evidence(tensors["values"], tensors["set"])
        made._weighed = replace(made._weighed.on(evidence), tombstones=stones)
        made.log = tuple(Act(**act) for act in header["log"])
        made._accounts = tuple(Account.from_json(one) for one in header["memories"])
        return made

    # --- inside ---------------------------------------------------------------------------------------------------

    def _denouement(self) -> tuple[int, ...]:
        """Tell every memory anew whose explanation has lost its support; returns their numbers."""
        told = retold(self._accounts, self.names, self.graphs, self.posterior, time=self.time + 1)
        self._accounts, revised = told
        return revised

    def _supported(self, explains: Mapping[str, tuple[str, ...]]) -> float:
        return supported(explains, self.names, self.graphs, self.posterior)

    def _keep(self, account: Account) -> None:
        self._accounts = tuple(account if one.id == account.id else one for one in self._accounts)

    def _record(self, name: str, given: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        self.log = (*self.log, Act(self.time + 1, name, given, found))

    def _prior_weights(self, graphs: Any, log_prior: Any) -> Exact | Sampled:
        """Weigh the graphs without any evidence."""
        nothing, method = Evidence.nothing(self.variables.p, continuous=self.variables.continuous), self._method(graphs)
        if method != "exact":
            prior_of(log_prior, 0, exact=False)
            return Sampled(self.score, (method, self.settings["max_parents"], self.settings["seed"]), nothing)
        dags = enumerate_dags(self.variables.p) if graphs is None else plots_of(graphs, self.names)
        prior = prior_of(log_prior, len(dags), exact=True)
        table = family_table(self.score, nothing, dags)
        return Exact(self.names, self.score, dags, prior, Tombstones.none(len(dags)), nothing, table)

    def _method(self, graphs: Any) -> str:
        """Choose the method, or refuse the one that was chosen."""
        method = self.settings["method"]
        if method not in ("auto", "exact", "order", "search"):
            raise ValueError(f"got method={method!r}; expected auto, exact, order or search")
        if graphs is not None and method in ("order", "search"):
            raise ValueError(f"got plots and method={method!r}; expected method='exact', which weighs the plots given")
        small = self.variables.p <= LARGEST or graphs is not None
        return ("exact" if small else "order") if method == "auto" else method
