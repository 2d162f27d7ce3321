"""The check that a trial reads the data that it was planned with."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.data.content import mark_of_files, mark_of_part
from bench.data.dataset import Dataset
from bench.data.images import AnyImages, ImageFiles
from bench.data.splits import PART_NAMES, PartName
from bench.errors import TrialFailed
from bench.plan.data_identity import PlannedData, find, raw_files
from bench.plan.registry import Registry
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig


class PlannedDataCheck:
    """Compares names, sizes and times of files, or the tensors that were loaded, with the plan's."""

    def __init__(self, config: RunConfig, registry: Registry) -> None:
        self.config = config
        # Of those whose images are files: they are looked at again before every trial.
        self._files: dict[tuple[str, int | None], dict[PartName, ImageFiles]] = {}
        for planned in config.data:
            if planned.place.classes:
                registry.add_folder(planned.dataset, planned.place)

    def of(self, spec: TrialSpec) -> PlannedData | None:
        """Return the data that a trial was planned with; None where no digest identifies them.

        Raises:
            TrialFailed: the run was not planned with these data.
        """
        planned = self._planned(spec.dataset, spec.seed)
        if spec.data != (planned.digest if planned is not None else None):
            raise TrialFailed(
                f"{spec.dataset} with the content {spec.data} is not what this run was planned with; "
                "run bench run again"
            )
        return planned

    def check(
        self,
        dataset: Dataset,
        name: str,
        seed: int,
        parts: Mapping[PartName, AnyImages] | None = None,
    ) -> None:
        """Compare data with the plan.

        Args:
            parts: as they were loaded just now; None: they were before, and their files are looked at
                again.

        Raises:
            TrialFailed: a file changed since, or `load` gives something else than it did.
        """
        planned = self._planned(name, seed)
        if planned is None:
            return
        files = self._files.setdefault((name, planned.seed), {})
        files |= {n: p for n, p in (parts or {}).items() if isinstance(p, ImageFiles)}
        if len(planned.marks) == 1:
            self._compare_raw(planned, dataset)
        else:
            _compare(planned, files if parts is None else parts)

    def _planned(self, dataset: str, seed: int) -> PlannedData | None:
        data = self.config.data
        return find(data, dataset, None) or find(data, dataset, seed)

    def _compare_raw(self, planned: PlannedData, dataset: Dataset) -> None:
        names, root = raw_files(dataset, self.config.data_dir), self.config.data_dir
        if (mark_of_files(root, names),) != planned.marks:
            raise _changed(planned, [root / name for name in names])


def _compare(planned: PlannedData, parts: Mapping[PartName, AnyImages]) -> None:
    marks = dict(zip(PART_NAMES, planned.marks, strict=True))
    if all(mark_of_part(part) == marks[name] for name, part in parts.items()):
        return
    images = [part for part in parts.values() if isinstance(part, ImageFiles)]
    if images:
        raise _changed(planned, [each.root / name for each in images for name in each.paths])
    raise TrialFailed(
        f"{planned.dataset}: load() gave other data than when the run was planned; it must give the "
        "same at every call"
    )


def _changed(planned: PlannedData, files: Sequence[Path]) -> TrialFailed:
    """Return the error that names a file which is newer than the plan, where one is."""
    newer = (f for f in files if not f.is_file() or f.stat().st_mtime_ns >= planned.planned_at)
    what = next(newer, planned.place.path)
    return TrialFailed(
        f"{planned.dataset}: {what} changed after the run was planned; run the same command again with "
        "--retry-failed, which plans with the data as they are then"
    )
