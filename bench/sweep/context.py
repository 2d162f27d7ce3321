"""The context of a process that runs or measures trials: results, plug-ins, machine and loaded data."""

import copy
from collections.abc import Callable

from bench.data.batches import MeasuringParts, Part, TrainingParts
from bench.data.dataset import Dataset
from bench.data.images import AnyImages, ImageFiles
from bench.data.splits import PartName, shrink_part
from bench.plan.recorded_code import registry_of_run
from bench.plan.registry import Registry
from bench.store import source_hash
from bench.store.results import Results
from bench.store.source_copies import SourceCopies
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.machine import Machine
from bench.sweep.planned_data import PlannedDataCheck
from bench.training.network import about


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
        self._training: dict[_Key, TrainingParts] = {}
        self._measuring: dict[_Key, MeasuringParts] = {}

    def prepare(self) -> None:
        """Set the process's threads and numerics, and take the hash of the code as it is now."""
        self.machine.prepare()
        source_hash.of_core()  # a file edited during the run must not count as what runs
        self.registry.entries("methods")  # nor may one that is being edited hide the others

    def use_code_of(self, spec: TrialSpec) -> None:
        """Take a user's files as they were when this trial was planned."""
        copies = SourceCopies(self.results.folder / "sources")
        self.registry = registry_of_run(self.registry, spec, copies)

    def training_parts(self, spec: TrialSpec) -> TrainingParts:
        """Return what a method is given of a data set; no test image is left in this process."""
        key = self._key(spec, self._side(spec))
        self._look_again(spec, key in self._training)
        if key not in self._training:
            dataset, (train, validation) = self._loaded(spec, ("train", "validation"), key[2])
            self._training[key] = TrainingParts(dataset, train, validation)
        return self._training[key]

    def measuring_parts(self, spec: TrialSpec, has_network: bool = True) -> MeasuringParts:
        """Return what a finished network is measured on; without the network, in the data's own size."""
        key = self._key(spec, self._side(spec) if has_network else None)
        self._look_again(spec, key in self._measuring)
        if key not in self._measuring:
            dataset, (validation, test) = self._loaded(spec, ("validation", "test"), key[2])
            self._measuring[key] = MeasuringParts(dataset, validation, test)
        return self._measuring[key]

    def _look_again(self, spec: TrialSpec, is_loaded: bool) -> None:
        """Compare files of data that was loaded before with the plan."""
        if is_loaded:
            dataset = self.registry.dataset(spec.dataset).for_seed(spec.seed)
            self.data.check(dataset, spec.dataset, spec.seed)

    def code_of(self, spec: TrialSpec) -> dict[str, str]:
        """Return hashes of the code that training and measuring must have in common."""
        return {
            "network": self.registry.source_of("models", spec.model),
            "data set": self.registry.source_of("datasets", spec.dataset),
            "harness": source_hash.of_core(),
        }

    def _key(self, spec: TrialSpec, side: int | None) -> "_Key":
        """Return what a data set is loaded once for in a process; one that is drawn, once for each seed."""
        dataset = self.registry.dataset(spec.dataset)
        is_drawn = dataset.for_seed(spec.seed) is not dataset
        return spec.dataset, spec.budget, side, spec.seed if is_drawn else None

    def _side(self, spec: TrialSpec) -> int | None:
        return about(self.registry.model(spec.model)).input_size

    def _loaded(
        self, spec: TrialSpec, names: tuple[PartName, PartName], side: int | None
    ) -> tuple[Dataset, tuple[Part, Part]]:
        dataset = self.registry.dataset(spec.dataset).for_seed(spec.seed)
        # By a copy: a user's data set may keep on itself what it has read, test images too.
        loaded = copy.copy(dataset).load_parts(self.config.data_dir, names)
        self.data.check(dataset, spec.dataset, spec.seed, dict(zip(names, loaded, strict=True)))
        device, limit = self.machine.device, self.config.resident_bytes

        def part(name: PartName, images: AnyImages) -> Part:
            if spec.budget == "smoke":
                images = shrink_part(images, name)
            if isinstance(images, ImageFiles):
                images = images.up_to(self.config.max_megapixels)
            return Part.of(images, dataset, side, device, resident_bytes=limit)

        first, second = (part(name, i) for name, i in zip(names, loaded, strict=True))
        return dataset, (first, second)


_Key = tuple[str, str, int | None, int | None]  # data set, budget, side of its images, seed
