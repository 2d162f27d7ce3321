"""The context of a process that runs or measures trials: results, plug-ins, machine and loaded data."""

import copy

from bench.data.batches import MeasuringParts, Part, TrainingParts
from bench.data.dataset import Dataset
from bench.data.images import AnyImages
from bench.data.splits import PartName, shrink_part
from bench.plan.registry import Registry
from bench.store import source_hash
from bench.store.results import Results
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.machine import Machine
from bench.training.network import about


class SweepContext:
    """What a run's configuration names, opened in one process."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.results = Results(config.out)
        self.registry = Registry(config.plugins)
        self.machine: Machine = config.machine
        self._training: dict[_Key, TrainingParts] = {}
        self._measuring: dict[_Key, MeasuringParts] = {}

    def prepare(self) -> None:
        """Set the process's threads and numerics, and take the hash of the code as it is now."""
        self.machine.prepare()
        source_hash.of_core()  # a file edited during the run must not count as what runs

    def training_parts(self, spec: TrialSpec) -> TrainingParts:
        """Return what a method is given of a data set; no test image is left in this process."""
        key = self._key(spec)
        if key not in self._training:
            dataset, (train, validation) = self._loaded(spec, ("train", "validation"))
            self._training[key] = TrainingParts(dataset, train, validation)
        return self._training[key]

    def measuring_parts(self, spec: TrialSpec) -> MeasuringParts:
        """Return what a finished network is measured on."""
        key = self._key(spec)
        if key not in self._measuring:
            dataset, (validation, test) = self._loaded(spec, ("validation", "test"))
            self._measuring[key] = MeasuringParts(dataset, validation, test)
        return self._measuring[key]

    def code_of(self, spec: TrialSpec) -> dict[str, str]:
        """Return hashes of the code that training and measuring must have in common."""
        return {
            "network": self.registry.source_of("models", spec.model),
            "data set": self.registry.source_of("datasets", spec.dataset),
            "harness": source_hash.of_core(),
        }

    def _key(self, spec: TrialSpec) -> "_Key":
        """Return what a data set is loaded once for in a process; one that is drawn, once for each seed."""
        dataset = self.registry.dataset(spec.dataset)
        is_drawn = dataset.for_seed(spec.seed) is not dataset
        return spec.dataset, spec.budget, self._side(spec), spec.seed if is_drawn else None

    def _side(self, spec: TrialSpec) -> int | None:
        return about(self.registry.model(spec.model)).input_size

    def _loaded(
        self, spec: TrialSpec, names: tuple[PartName, PartName]
    ) -> tuple[Dataset, tuple[Part, Part]]:
        dataset = self.registry.dataset(spec.dataset).for_seed(spec.seed)
        # By a copy: a user's data set may keep on itself what it has read, test images too.
        loaded = copy.copy(dataset).load_parts(self.config.data_dir, names)
        side, device = self._side(spec), self.machine.device
        limit = self.config.resident_bytes

        def part(name: PartName, images: AnyImages) -> Part:
            if spec.budget == "smoke":
                images = shrink_part(images, name)
            return Part.of(images, dataset, side, device, resident_bytes=limit)

        first, second = (part(name, i) for name, i in zip(names, loaded, strict=True))
        return dataset, (first, second)


_Key = tuple[str, str, int | None, int | None]  # data set, budget, side of its images, seed
