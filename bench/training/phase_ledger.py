"""Every phase a trial needed: found by its key or computed under its lock, and what it cost."""

from collections.abc import Callable
from typing import TypeVar

from bench.errors import TrialFailed
from bench.store.phase_cache import PhaseStore, Stored
from bench.store.phase_records import Cost, PhaseRecord
from bench.training.trial_records import Work

P = TypeVar("P", bound=PhaseRecord)


class Ledger:
    """One trial's phases.

    Attributes:
        costs: by key, so that a phase counts once however often it is loaded.
        outside: of what a method does beside its phases.
        current_cost: of the running phase, else `outside`; forward passes are added to it.
    """

    def __init__(self, store: PhaseStore) -> None:
        self.store = store
        self.work = Work()
        self.costs: dict[str, Cost] = {}
        self.outside = Cost()
        self.current_cost = self.outside
        self._inside = False

    def phase(
        self, key: str, kind: type[P], compute: Callable[[], Stored[P]]
    ) -> tuple[Stored[P], bool]:
        """Return a phase's record and tensors, and whether they were computed just now."""
        computed = False
        stored = self.store.load(key, kind)
        if stored is None:
            with self.store.claim(key) as waited:
                self.work.waited_seconds += waited
                stored = self.store.load(key, kind)  # somebody may have finished it meanwhile
                if stored is None:
                    stored, computed = self._compute(key, compute), True
        self.costs[key] = stored.record.cost.model_copy()
        self.work.phases_computed += computed
        self.work.phases_reused += not computed
        return stored, computed

    def refuse_inside(self, name: str) -> None:
        """Guard what must not be used inside a phase: no key would know of it, or it would be lost.

        Raises:
            TrialFailed: a phase is running.
        """
        if self._inside:
            raise TrialFailed(
                f"trial.{name} was used inside a phase: its key does not see it, and whoever loads the "
                "phase goes without; pass values as arguments or fields of the callback, and do the rest "
                "outside"
            )

    @property
    def cost(self) -> Cost:
        """The sum over every phase this trial needed, whoever computed it, and what was done outside."""
        total = self.outside.model_copy()
        for cost in self.costs.values():
            total.add(cost)
        return total

    def _compute(self, key: str, compute: Callable[[], Stored[P]]) -> Stored[P]:
        self.current_cost, self._inside = Cost(), True
        try:
            stored = compute()
        finally:
            self.current_cost, self._inside = self.outside, False
        self.store.save(key, stored.record, stored.tensors)
        return stored
