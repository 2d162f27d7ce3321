"""The configuration of a run: the flags of `bench run` that say how trials are run."""

from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bench.choices import MOST_THREADS, Effort, ProgressStyle
from bench.data.decoding import MOST_MEGAPIXELS
from bench.data.processes import available_cores
from bench.errors import UsageError
from bench.plan.data_identity import PlannedData
from bench.sweep.machine import Machine, device_named
from bench.system_errors import need_utf8


class RunConfig(BaseModel):
    """One run: where it reads and writes, and who computes. Checked once, when it is made.

    The fields are the flags of `bench run` with their defaults. It is sent to worker processes.

    Attributes:
        out: the results folder.
        data_dir: of downloaded data sets.
        threads: CPU threads of each trial.
        jobs: worker processes; `auto`: as many as cores allow, one on a GPU.
        checkpoint_seconds: an unfinished training is saved at most this often.
        resident_gb: data that decodes to more than this many GiB is streamed.
        max_megapixels: image files of more are refused before they are decoded.
        latency: how long networks are timed after the trials; None: `quick`, or `off` for smoke runs.
        data: what the run's trials were planned with, where a digest identifies it.
        weights_file: what trials start from whose specification names a file's hash.
        command: the arguments of the command line, for the record.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    data_dir: Path = Path("data")
    device: str = "auto"
    threads: int = Field(default=1, ge=1, le=MOST_THREADS)
    jobs: int | Literal["auto"] = "auto"
    plugins: tuple[Path, ...] = ()
    checkpoint_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    resident_gb: float = Field(default=4.0, ge=0, allow_inf_nan=False)
    max_megapixels: float = Field(default=MOST_MEGAPIXELS, gt=0, allow_inf_nan=False)
    retry_failed: bool = False
    rerun_changed: bool = False
    latency: Effort | None = None
    progress: ProgressStyle = "auto"
    as_json: bool = False
    data: tuple[PlannedData, ...] = ()
    weights_file: Path | None = None
    command: tuple[str, ...] = ()

    @field_validator("device")
    @classmethod
    def _is_there(cls, name: str) -> str:
        device_named(name)
        return name

    @field_validator("out", "weights_file")
    @classmethod
    def _is_text(cls, path: Path | None) -> Path | None:
        if path is not None:
            need_utf8(path)
        return path

    @field_validator("jobs", mode="before")
    @classmethod
    def _is_auto_or_a_number(cls, given: object) -> object:
        text = str(given)
        if text == "auto" or (text.isdecimal() and int(text) > 0):
            return text if text == "auto" else int(text)
        raise UsageError(f"--jobs {text!r} is neither auto nor a number from 1 up")

    @classmethod
    def checked(cls, flags: dict[str, object]) -> Self:
        """Return the configuration that flags ask for.

        Raises:
            UsageError: a value that cannot be; a device that is not there.
        """
        try:
            return cls.model_validate(flags)
        except ValidationError as error:
            first = error.errors()[0]
            flag = "--" + str(first["loc"][0]).replace("_", "-")
            raise UsageError(f"{flag} {first['input']}: {first['msg']}") from None

    @property
    def resident_bytes(self) -> int:
        return round(self.resident_gb * 2**30)

    @property
    def machine(self) -> Machine:
        return Machine(self.torch_device, self.threads)

    @property
    def torch_device(self) -> torch.device:
        return device_named(self.device)

    def workers(self, chains: int) -> int:
        """Return how many processes to start for so many chains of trials."""
        if self.jobs != "auto":
            return max(1, min(self.jobs, chains))
        on_gpu = self.torch_device.type == "cuda"
        return max(1, min(1 if on_gpu else available_cores() // self.threads, chains))
