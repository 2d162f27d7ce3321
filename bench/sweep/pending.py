"""The pending trials of a plan: finished ones are skipped, failed ones wait, changed ones are named."""

from dataclasses import dataclass, field

from bench.plan.expand import Chain, Plan
from bench.plan.registry import Registry
from bench.store.json_values import RecordError
from bench.store.records import read_sources
from bench.store.results import Results
from bench.store.source_hash import is_other_code
from bench.store.trial_identity import TrialSpec


@dataclass
class Pending:
    """The trials of a plan that are still to be run.

    Attributes:
        stale: finished trials that are to be run again.
        unreadable: trials whose records cannot be read and may be sound, and controls that follow them:
            they are neither run nor counted.
        warnings: sentences about records and about plug-ins that changed since.
    """

    chains: list[Chain]
    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stale: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def trials(self) -> int:
        return sum(len(chain.trials) for chain in self.chains)


def find_pending(
    plan: Plan, results: Results, registry: Registry, retry_failed: bool, rerun_changed: bool
) -> Pending:
    """Return the trials that are still to be run; nothing in the folder is changed."""
    pending = Pending([])
    changed = _Changed(results, registry)
    for chain in plan.chains:
        left = []
        for trial_id in chain.trials:
            found, spec = results.finished(trial_id), plan.trials[trial_id]
            record = found.record
            if found.problem:
                pending.warnings.append(found.problem)
            if found.is_unreadable or set(spec.depends_on).intersection(pending.unreadable):
                pending.unreadable.append(trial_id)
                continue
            # A control follows what its trial kept: with the one, the other is stale.
            if record is not None and changed(spec) and rerun_changed:
                pending.stale.add(trial_id)
            if rerun_changed and pending.stale.intersection(spec.depends_on):
                pending.stale.add(trial_id)
            if record is not None and trial_id not in pending.stale:
                pending.finished.append(trial_id)
            elif results.trial(trial_id).status() == "failed" and not retry_failed:
                pending.failed.append(trial_id)
            else:
                left.append(trial_id)
        pending.chains.append(Chain(tuple(left), chain.after))
    pending.warnings += changed.sentences(rerun_changed)
    return pending


class _Changed:
    """Finds finished trials whose plug-ins' code is not what it was, though they are the same trials.

    The code of a user's file is part of the trial's identity; that of a shipped plug-in is its version.
    """

    def __init__(self, results: Results, registry: Registry) -> None:
        self.results, self.registry = results, registry
        self._now: dict[tuple[str, str, str], dict[str, str]] = {}
        self._named: dict[str, int] = {}

    def __call__(self, spec: TrialSpec) -> bool:
        names = (spec.method, spec.model, spec.dataset)
        if names not in self._now:
            self._now[names] = self.registry.sources_of(spec)
        try:
            then = read_sources(self.results.trial(spec.id).path / "spec.json")
        except RecordError:
            return False
        different = [
            kind
            for kind, now in self._now[names].items()
            if kind not in spec.sources and is_other_code(then.get(kind, ""), now)
        ]
        for kind in different:
            name = f"{kind} {getattr(spec, kind)}"
            self._named[name] = self._named.get(name, 0) + 1
        return bool(different)

    def sentences(self, rerun: bool) -> list[str]:
        if rerun:
            return []
        return [
            f"{count} finished trials were run with other code of the {name}: they are kept as they "
            "are; --rerun-changed runs them again"
            for name, count in self._named.items()
        ]
