"""ImageNet rows without training: published or own weights of a torchvision network are evaluated."""

import json
import os
from pathlib import Path

import pytest
import torch
import torchvision
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from torchvision.transforms import v2

from bench.cli.main import cli

# Where Imagenette's ten classes stand among ImageNet's thousand.
PLACES = {
    "n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497,
    "n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701,
}  # fmt: skip


def lay_out(packed: Path, root: Path) -> list[tuple[Path, int]]:
    """Make ImageNet's folders with Imagenette's images in ten of them; returns the test images."""
    names = {place: wnid for wnid, place in PLACES.items()}
    last = ""
    for place in range(1000):
        last = names.get(place, f"{last[:9]}_{place:04d}")
        (root / "train" / last).mkdir(parents=True)
        (root / "val" / last).mkdir(parents=True)
    images = []
    for wnid, place in PLACES.items():
        for part in ("train", "val"):
            for file in sorted((packed / part / wnid).glob("*.JPEG"))[:3]:
                target = root / part / wnid / file.name
                target.symlink_to(file)
                images += [(target, place)] if part == "val" else []
    return images


@pytest.mark.slow
@pytest.mark.skipif("BENCH_TEST_DATA" not in os.environ, reason="BENCH_TEST_DATA names no folder")
def test_a_reference_row_is_what_torchvision_computes(tmp_path: Path) -> None:
    packed = Path(os.environ["BENCH_TEST_DATA"]) / "imagenette2-160"
    images = lay_out(packed, tmp_path / "data" / "imagenet")
    torch.manual_seed(0)
    model = torchvision.models.alexnet(num_classes=1000).eval()
    weights = tmp_path / "alexnet.safetensors"
    save_file(model.state_dict(), weights)
    out = tmp_path / "results"
    done = CliRunner().invoke(
        cli,
        ["run", "--methods", "dense", "--models", "torchvision:alexnet", "--weights", str(weights),
         "--datasets", "imagenet", "--data-dir", str(tmp_path / "data"), "--seeds", "0",
         "--latency", "off", "--jobs", "1", "--progress", "off", "--out", str(out)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    metrics = json.loads(next(out.glob("trials/*/result.json")).read_text())["metrics"]
    look = v2.Compose([
        v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    x = torch.stack([look(Image.open(path).convert("RGB")) for path, _ in images])
    y = torch.tensor([place for _, place in images])
    with torch.no_grad():
        logits = model(x)
    loss = float(torch.nn.functional.cross_entropy(logits, y))
    assert metrics["n_test"] == len(images) == 30
    assert metrics["epochs_total"] == 0
    assert metrics["test_loss"] == pytest.approx(loss, rel=1e-4)
    top5 = 100 * float((logits.topk(5).indices == y[:, None]).any(1).float().mean())
    assert metrics["top5"] == pytest.approx(top5, abs=3.4)  # one image, should two logits tie
