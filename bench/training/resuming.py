"""A training as a phase: continued where a killed process left it, saved every so often."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from bench.store.phase_cache import Stored
from bench.training.callback import Callback, pack
from bench.training.job import Job, Progress
from bench.training.loop import Training

if TYPE_CHECKING:
    from bench.training.trial import Trial


def trained(trial: "Trial", key: str, job: Job, callback: Callback | None) -> Stored:
    """Run a training from its start or its last checkpoint; returns its record and end state."""
    setting = trial.setting
    training = Training(job, trial.model, trial.layout, trial.masks, setting.train, callback, trial)
    saved = setting.store.load_progress(key)
    if saved is not None:
        training.resume(Progress.from_json(saved[0]), saved[1])
    trial.ledger.meter = training.progress.cost
    trial.open_log = training.progress.log
    epochs_before = training.progress.epoch
    last_save = time.monotonic()

    def checkpoint(now: Training) -> None:
        nonlocal last_save
        if now.progress.step == 0:
            setting.notify(now.progress.epoch, job.stop)
        if time.monotonic() - last_save >= setting.checkpoint_seconds:
            tensors = now.state()
            setting.store.save_progress(key, now.progress.as_json(), tensors)
            last_save = time.monotonic()

    training.run(checkpoint)
    plain, tensors = pack(callback)
    state = {f"model/{k}": v for k, v in trial.model.state_dict().items()}
    state |= {f"mask/{k}": v for k, v in trial.masks.touched.items()}
    state |= {f"callback/{k}": v for k, v in tensors.items()}
    done = training.progress
    work = trial.ledger.work
    work.trainings += 1
    work.epochs += done.epoch - epochs_before
    work.images_seen += (done.epoch - epochs_before) * len(setting.train)
    record = {"cost": asdict(done.cost), "log": done.log, "callback": plain,
              "at_floor": trial.masks.at_floor}  # fmt: skip
    return record, state
