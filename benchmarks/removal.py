"""Pruned means smaller and faster: what FPGM at 40 and 60 % of the filters leaves, per coupling.

    python benchmarks/removal.py

VGG-16-BN and ResNet-18 at 32x32, untrained, normalisation statistics drawn at random. For each coupling:
parameters and multiply-adds after real removal, the proof (float64), the speed-up on this CPU (dense and
compact in turn, median and quartiles), and the largest difference of ONNX Runtime's logits.
"""

import argparse
import json
import math
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from findings import machine
from torch import nn

from bench.choices import Coupling
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.graph.verify import multiply_adds, removed
from bench.measure import latency
from bench.methods.fpgm import distance_sums
from bench.models.resnet import resnet_18
from bench.models.vgg import vgg_16_bn
from bench.pruning.hard_mask import apply_hard
from bench.pruning.masks import Masks
from bench.seeds import generator

SHAPE = (3, 32, 32)
CPU = torch.device("cpu")
COUPLINGS: tuple[Coupling, ...] = ("internal", "intersection", "branch", "tied")
NETWORKS = {"vgg-16-bn": vgg_16_bn, "resnet-18": resnet_18}


@dataclass(frozen=True)
class Row:
    """One network after removal; `cut` is the share of multiply-adds that is gone."""

    network: str
    share: float
    coupling: str
    parameters: int
    multiply_adds: int
    cut: float
    error: float
    onnx_difference: float
    speedups: tuple[tuple[int, float, float, float], ...]

    def line(self) -> str:
        times = "  ".join(
            f"b{b}: {m:.2f}x ({low:.2f}-{high:.2f})" for b, m, low, high in self.speedups
        )
        return (
            f"{self.network:<9} {self.share:.0%} {self.coupling:<12} {self.parameters / 1e6:7.3f} M  "
            f"{self.multiply_adds / 1e6:6.1f} M MACs  cut {100 * self.cut:4.1f} %  proof {self.error:.0e}  "
            f"onnx {self.onnx_difference:.0e}  {times}"
        )


def lively(network: nn.Module) -> nn.Module:
    """Set eval mode, channels_last and random normalisation statistics: at their start constants are 0."""
    g = torch.Generator().manual_seed(0)
    for module in network.eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            module.running_mean = 0.1 * torch.randn(n, generator=g)
            module.running_var = torch.rand(n, generator=g) + 0.5
            module.weight.data = torch.rand(n, generator=g) + 0.5
            module.bias.data = 0.1 * torch.randn(n, generator=g)
    return network.to(memory_format=torch.channels_last)


def nearest_the_median(network: nn.Module, layout: Layout, share: float) -> Masks:
    """Return FPGM's masks: floor(share x filters) of every convolution but projections."""
    masks = Masks(layout, CPU, lambda purpose: generator(0, purpose))
    for site in layout.sites:
        layers = [layout.layer(module) for module in site.modules]
        projects = len(layers) == 1 and layers[0].weight_shape[2:] == (1, 1)  # sec. 4.1: not pruned
        if site.is_input or not layers[0].is_convolution or projects:
            continue
        filters = [network.get_parameter(f"{m}.weight").detach().flatten(1) for m in site.modules]
        scores = torch.stack([s / s.mean() for s in map(distance_sums, filters)]).sum(0)
        mask = torch.ones(site.size, dtype=torch.bool)
        mask[scores.argsort(stable=True)[: math.floor(share * site.size + 1e-9)]] = False
        masks[site.name] = mask
    return masks


def onnx_difference(network: nn.Module) -> float:
    """Return the largest difference of ONNX Runtime's logits, relative to max(1, largest logit)."""
    import onnxruntime

    x = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
        expected = network(x)
    return float((found - expected).abs().max()) / max(1.0, float(expected.abs().max()))


def row(name: str, share: float, coupling: Coupling, span: latency.Span) -> Row:
    torch.manual_seed(0)
    network = lively(NETWORKS[name](10, SHAPE))
    layout = layout_of(network, torch.zeros(1, *SHAPE), coupling)
    masks = nearest_the_median(network, layout, share)
    dense = multiply_adds(network, SHAPE)
    apply_hard(network, masks)
    left = removed(network, layout, masks.touched, SHAPE)
    times = latency.measure(network, left.network, SHAPE, CPU, span)
    return Row(
        name, share, coupling, left.parameters, left.multiply_adds, 1 - left.multiply_adds / dense,
        left.error, onnx_difference(left.network),
        tuple((t.batch_size, t.speedup, t.low, t.high) for t in times),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.4, 0.6])
    parser.add_argument("--seconds", type=float, default=3.0, help="per network and batch size")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cpu = machine()
    print(f"removal on {cpu['cpu']}, one thread, torch {cpu['torch']}")
    rows = []
    for name in given.networks:
        for share in given.shares:
            for coupling in COUPLINGS:
                span = latency.Span(given.seconds, 2 * given.seconds)
                rows.append(row(name, share, coupling, span))
                print(rows[-1].line(), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
