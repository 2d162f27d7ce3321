"""The loop a user would write: train, prune half of every layer by magnitude, train again.

One process, torchvision's data set, a DataLoader, torch.nn.utils.prune. Prints JSON with the test
accuracy of every seed. `end_to_end.py` runs it; nothing of the harness is used here.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.utils.data import DataLoader, random_split
from torchvision import transforms
from torchvision.datasets import FashionMNIST

MEAN, STD = (0.2860,), (0.3530,)
VALIDATION_SHARE = 0.1  # set aside, as the harness does: both sides train on the same number


def lenet_300_100() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def lenet_5() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet-300-100": lenet_300_100,
    "lenet-5": lenet_5,
}


def loaders(given: argparse.Namespace) -> tuple[Any, Any]:
    """Return batches of the training and of the test images."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    training = FashionMNIST(given.data, train=True, transform=transform)
    test = FashionMNIST(given.data, train=False, transform=transform)
    n_validation = round(len(training) * VALIDATION_SHARE)
    training, _ = random_split(training, [len(training) - n_validation, n_validation])
    more = {"num_workers": given.workers, "persistent_workers": given.workers > 0}
    return (
        DataLoader(training, given.batch, shuffle=True, **more),
        DataLoader(test, 1000, num_workers=given.workers),
    )


def train(model: nn.Module, batches: Any, given: argparse.Namespace) -> None:
    optimizer = torch.optim.SGD(
        model.parameters(), given.lr, given.momentum,
        weight_decay=given.weight_decay, nesterov=given.nesterov,
    )  # fmt: skip
    steps = given.epochs * len(batches)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _ in range(given.epochs):
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def halve(model: nn.Module) -> None:
    """Mask the smaller half of every layer's weights."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            prune.l1_unstructured(module, "weight", amount=0.5)  # type: ignore[no-untyped-call]


@torch.no_grad()
def top1(model: nn.Module, batches: Any) -> float:
    model.eval()
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return 100 * right / len(batches.dataset)


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", choices=NETWORKS, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--nesterov", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.perf_counter()
    training, test = loaders(given)
    accuracies = []
    for seed in range(given.seeds):
        torch.manual_seed(seed)
        model = NETWORKS[given.model]()
        train(model, training, given)
        halve(model)
        train(model, training, given)
        accuracies.append(top1(model, test))
    print(json.dumps({"top1": accuracies, "seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main()
