"""The context of a process that runs trials: results, plug-ins, machine and loaded data."""

from collections.abc import Callable

from bench.choices import Budget
from bench.data.batches import Part, Parts
from bench.data.splits import shrink_for_smoke
from bench.plan.recorded_code import registry_of_run
from bench.plan.registry import Registry
from bench.store import source_hash
from bench.store.results import Results
from bench.store.source_copies import SourceCopies
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.machine import Machine
from bench.sweep.planned_data import PlannedDataCheck


class SweepContext:
    """Everything that a run's configuration names, opened in one process.

    Attributes:
        tell: is given sentences for the user about the trial that is running.
    """

    def __init__(self, config: RunConfig) -> None:
        self.tell: Callable[[str], None] = lambda sentence: None
        self.config = config
        self.results = Results(config.out)
        self.registry = Registry(config.plugins)
        self.data = PlannedDataCheck(config, self.registry)
        self.machine: Machine = config.machine
        self._parts: dict[tuple[str, str, int | None, int | None], Parts] = {}

    def prepare(self) -> None:
        """Set the process's threads and numerics, and take the hash of the code as it is now."""
        self.machine.prepare()
        source_hash.of_core()  # a file edited during the run must not count as what runs
        self.registry.entries("methods")  # nor may one that is being edited hide the others

    def use_code_of(self, spec: TrialSpec) -> None:
        """Take a user's files as they were when this trial was planned."""
        copies = SourceCopies(self.results.folder / "sources")
        self.registry = registry_of_run(self.registry, spec, copies)

    def parts(self, name: str, budget: Budget, size: int | None, seed: int) -> Parts:
        """Load a data set once per process; one that is drawn, once for each seed."""
        always = self.registry.dataset(name)
        dataset = always.for_seed(seed)
        key = (name, budget, size, None if dataset is always else seed)
        if key in self._parts:
            self.data.check(dataset, name, seed)
        else:
            split = dataset.load(self.config.data_dir)
            self.data.check(dataset, name, seed, split)
            if budget == "smoke":
                split = shrink_for_smoke(split)
            device, limit = self.machine.device, self.config.resident_bytes
            three = (
                Part.of(images, dataset, size, device, resident_bytes=limit)
                for images in (split.train, split.validation, split.test)
            )
            self._parts[key] = Parts(dataset, *three)
        return self._parts[key]
