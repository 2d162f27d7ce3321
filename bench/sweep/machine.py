"""The machine a trial runs on: device, threads, numerics; set once per process and recorded."""

import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench.errors import UsageError
from bench.store.records import EnvironmentRecord

_RECORDED = ("torch", "torchvision", "torch-pruning", "numpy", "prunebench")


def device_named(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        UsageError: it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name!r} is no device; use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (device.index or 0):
            found = f"there are {count}" if count else "there is no GPU that torch can use"
            raise UsageError(f"--device {name}: {found} here; --device cpu runs without one")
    return device


def matmul_precision() -> str:
    """Return the fp32 matrix product setting for this CPU.

    "medium" sends fp32 products through oneDNN: twice the speed at full accuracy (5.7e-7) on CPUs
    without AMX. With AMX it would round to bfloat16.
    """
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_amx = capabilities.get("amx_tile", "amx_tile" in _cpu_flags())
    return "highest" if has_amx else "medium"


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


@dataclass(frozen=True)
class MachineFacts:
    """The facts of a machine that decide a phase's bits: part of every key."""

    device: str
    threads: int
    torch: str
    matmul: str


@dataclass(frozen=True)
class Machine:
    """Device and threads of this process."""

    device: torch.device
    threads: int = 1

    def prepare(self) -> None:
        """Set threads and numerics for the whole process."""
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32, on a GPU too

    @property
    def matmul(self) -> str:
        """On a GPU "medium" would mean TF32; the host's CPU must not decide that."""
        return "highest" if self.device.type == "cuda" else matmul_precision()

    def facts(self) -> MachineFacts:
        """Return the facts that decide a phase's bits."""
        return MachineFacts(self.device.type, self.threads, str(torch.__version__), self.matmul)

    def arithmetic(self) -> EnvironmentRecord:
        """Return the fields of `env.json` that decide the last bits of a sum."""
        name = platform.processor() or platform.machine()
        if self.device.type == "cuda":
            name = torch.cuda.get_device_name(self.device)
        return EnvironmentRecord(
            **asdict(self.facts()),
            device_name=name,
            cpu_capability=torch.backends.cpu.get_cpu_capability(),
        )

    def peak_memory_mb(self) -> float | None:
        """Return the peak memory of the GPU, else of this process; None where the system does not say."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:
            import resource  # Windows has none
        except ImportError:
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes

    def record(self, flags: list[str]) -> EnvironmentRecord:
        """Return the content of `env.json`."""
        more = EnvironmentRecord(
            python=platform.python_version(),
            system=f"{platform.system()} {platform.release()}",
            versions={package: _version(package) for package in _RECORDED},
            git_commit=_git_commit(),
            flags=flags,
        )
        return EnvironmentRecord.model_validate({**self.arithmetic().as_json(), **more.as_json()})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Return the commit of the harness's own checkout; None when it is installed from a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
