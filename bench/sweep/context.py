"""The context of a process that runs trials: results, plug-ins, machine and data."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.data.batches import Part, Parts
from bench.data.splits import shrink_for_smoke
from bench.data.streaming import RESIDENT_BYTES
from bench.plan.registry import Registry
from bench.store.results import Results
from bench.sweep.machine import Machine


@dataclass
class SweepContext:
    """The context of a process that runs trials: results, plug-ins, machine and data."""

    results: Results
    registry: Registry
    machine: Machine
    data_root: Path
    flags: list[str] = field(default_factory=list)
    checkpoint_seconds: float = 30.0
    resident_bytes: int = RESIDENT_BYTES
    weights_file: Path | None = None
    _parts: dict[tuple[str, str, int | None, int | None], Parts] = field(default_factory=dict)

    def parts(self, name: str, budget: str, size: int | None, seed: int) -> Parts:
        """Load a data set once per process; one that is drawn, once for each seed."""
        always = self.registry.dataset(name)
        dataset = always.for_seed(seed)
        key = (name, budget, size, None if dataset is always else seed)
        if key not in self._parts:
            split = dataset.load(self.data_root)
            if budget == "smoke":
                split = shrink_for_smoke(split)
            three = (
                Part.of(
                    images, dataset, size, self.machine.device, resident_bytes=self.resident_bytes
                )
                for images in (split.train, split.validation, split.test)
            )
            self._parts[key] = Parts(dataset, *three)
        return self._parts[key]
