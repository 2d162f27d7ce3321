"""Weights that a network starts from: every way to be wrong, and that right ones are taken exactly."""

import dataclasses
import hashlib
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from small_networks import MakeTrial, small_conv
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bench.errors import TrialFailed, UnknownName, UsageError
from bench.graph.trace import layout_of
from bench.methods.dense import Dense
from bench.methods.magnitude import Magnitude
from bench.plan.expand import Plan, make_plan
from bench.plan.registry import Registry
from bench.plan.request import Request
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.trial_inputs import _weights
from bench.training.contract import Reference, Trial
from bench.training.fitting_weights import named_as_own
from bench.training.network import PublishedWeights, about
from bench.training.pretrained import FittedWeights, check_file, fitted, identity_of, load
from bench.training.trial import RunningTrial

EXAMPLE = torch.zeros(1, 1, 8, 8)
SMALL_NET = Path(__file__).parents[1] / "small_net.py"
State = dict[str, Tensor]


def other_weights(classes: int = 4) -> State:
    """A whole state of `small_conv`, nothing like the one a trial starts from."""
    torch.manual_seed(77)
    model = small_conv()
    if classes != 4:
        model.fc1 = nn.Linear(32, classes)
    return {k: torch.rand_like(v) if v.is_floating_point() else v + 9
            for k, v in model.state_dict().items()}  # fmt: skip


def saved(tmp_path: Path, state: State, name: str = "w.safetensors") -> Path:
    path = tmp_path / name
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def check(path: Path) -> None:
    model = small_conv()
    check_file(path, model, layout_of(model, EXAMPLE), "small")


def sentence(caught: pytest.ExceptionInfo[UsageError]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


# -- files -----------------------------------------------------------------------------------------


def test_a_file_that_fits_is_taken_bit_for_bit(tmp_path: Path) -> None:
    state = other_weights()
    path = saved(tmp_path, state)
    check(path)
    model = small_conv()
    found = fitted(load("small", identity_of("small", str(path)), path), model,
                   layout_of(model, EXAMPLE), "it")  # fmt: skip
    assert found.fresh == ()
    assert found.tensors.keys() == model.state_dict().keys()
    assert all(torch.equal(found.tensors[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv2.weight"), ["'conv2.weight' is missing"]),
        (lambda s: s.pop("bn1.running_var"), ["'bn1.running_var' is missing"]),
        (lambda s: s.pop("fc1.bias"), ["'fc1.bias' is missing"]),
        (lambda s: s.update(more=torch.zeros(2)), ["no tensor 'more'"]),
        (lambda s: s.update({"conv1.weight": torch.zeros(6, 3, 3, 3)}),
         ["'conv1.weight'", "(6, 3, 3, 3)", "(6, 1, 3, 3)"]),
        (lambda s: s.update({"bn2.weight": torch.zeros(9)}), ["'bn2.weight'", "(9,)", "(8,)"]),
    ],
    ids=["missing", "missing buffer", "missing in the classifier", "extra", "shape", "norm shape"],
)  # fmt: skip
def test_a_file_that_does_not_fit_names_the_tensor(
    tmp_path: Path, change: Callable[[State], Any], words: list[str]
) -> None:
    state = other_weights()
    change(state)
    path = saved(tmp_path, state)
    with pytest.raises(UsageError) as caught:
        check(path)
    assert all(word in sentence(caught) for word in [*words, str(path), "small"])
    model = small_conv()
    with pytest.raises(UsageError) as caught:
        fitted(state, model, layout_of(model, EXAMPLE), "it")
    assert all(word in sentence(caught) for word in words)


def test_of_several_missing_tensors_the_first_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {"nothing": torch.zeros(1)})
    with pytest.raises(UsageError, match="'conv1.weight' is missing"):
        check(path)


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "state_dict.", "state_dict.module.", "_orig_mod."]
)
def test_a_prefix_of_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    state = other_weights()
    path = saved(tmp_path, {prefix + k: v for k, v in state.items()})
    check(path)
    model = small_conv()
    found = fitted(load("small", identity_of("small", str(path)), path), model,
                   layout_of(model, EXAMPLE), "it")  # fmt: skip
    assert found.fresh == ()
    assert all(torch.equal(found.tensors[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(epoch=torch.zeros(1)),  # not all names have it
        lambda s: s.update({"module.more": torch.zeros(1)}),  # and the rest would not fit
        lambda s: s.pop("module.conv1.weight"),
    ],
    ids=["another name", "one too many", "one too few"],
)
def test_a_prefix_that_may_not_be_taken_off_is_explained(
    tmp_path: Path, change: Callable[[State], Any]
) -> None:
    state = {f"module.{k}": v for k, v in other_weights().items()}
    change(state)
    with pytest.raises(UsageError, match="DataParallel begin with 'module'") as caught:
        check(saved(tmp_path, state))
    sentence(caught)


def test_a_network_whose_own_names_begin_so_keeps_them() -> None:
    assert named_as_own(["model.a", "model.b"], ["model.a", "model.b"]) == {
        "model.a": "model.a", "model.b": "model.b",
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_width_become_the_networks_own(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = {k: v.to(dtype) for k, v in other_weights().items()}
    path = saved(tmp_path, state)
    check(path)
    model = small_conv()
    found = fitted(load("small", identity_of("small", str(path)), path), model,
                   layout_of(model, EXAMPLE), "it").tensors  # fmt: skip
    for name, own in model.state_dict().items():
        assert found[name].dtype == own.dtype
        assert torch.equal(found[name], state[name].to(own.dtype))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.full((6, 1, 3, 3), float("nan")), "holds NaN"),
        (torch.full((6, 1, 3, 3), float("inf")), "holds an infinite number"),
        (torch.full((6, 1, 3, 3), 1e300, dtype=torch.float64), "holds a number beyond float32"),
        (torch.ones(6, 1, 3, 3, dtype=torch.int8), "is of int8"),
        (torch.ones(6, 1, 3, 3, dtype=torch.int64), "is of int64"),
        (torch.ones(6, 1, 3, 3, dtype=torch.bool), "is of bool"),
        (torch.ones(6, 1, 3, 3).to(torch.float8_e4m3fn), "is of float8_e4m3fn"),
        (torch.ones(6, 1, 3, 3, dtype=torch.complex64), "is of complex64"),
    ],
    ids=["nan", "inf", "beyond", "int8", "int64", "bool", "float8", "complex"],
)  # fmt: skip
def test_values_that_are_no_weights_are_refused(tmp_path: Path, value: Tensor, words: str) -> None:
    state = other_weights() | {"conv1.weight": value}
    path = saved(tmp_path, state)
    with pytest.raises(UsageError) as caught:
        check(path)
    assert f"'conv1.weight' {words}" in sentence(caught)
    model = small_conv()
    with pytest.raises(UsageError, match=words):
        fitted(state, model, layout_of(model, EXAMPLE), "it")


def test_a_count_of_batches_may_have_another_type_and_not_another_value() -> None:
    model = small_conv()
    layout = layout_of(model, EXAMPLE)
    state = other_weights()
    whole = state | {"bn1.num_batches_tracked": torch.tensor(3.0)}
    assert fitted(whole, model, layout, "it").tensors["bn1.num_batches_tracked"].item() == 3
    half = state | {"bn1.num_batches_tracked": torch.tensor(0.5)}
    with pytest.raises(UsageError, match="num_batches_tracked"):
        fitted(half, model, layout, "it")


def test_a_classifier_for_other_classes_is_named_and_one_of_another_width_refused(
    tmp_path: Path,
) -> None:
    path = saved(tmp_path, other_weights(classes=7))
    model = small_conv()
    fresh = check_file(path, model, layout_of(model, EXAMPLE), "small")
    assert fresh == ("fc1.weight", "fc1.bias")
    state = other_weights() | {"fc1.weight": torch.zeros(4, 33)}
    with pytest.raises(UsageError, match=r"'fc1.weight' has the shape \(4, 33\)"):
        check(saved(tmp_path, state))


def test_a_plan_says_that_the_classifier_is_not_the_files(tmp_path: Path) -> None:
    path = file_for_small_net(tmp_path, classes=7)
    (note,) = plan(weights=str(path)).notes
    assert "for other classes" in note
    assert str(path) in note


def test_names_are_shown_without_what_a_terminal_acts_on(tmp_path: Path) -> None:
    for name in ("\x1b[31mred\x1b[0m\n<b>", "x" * 5000, "\u202egnp.exe"):
        with pytest.raises(UsageError, match="no tensor") as caught:
            check(saved(tmp_path, other_weights() | {name: torch.zeros(1)}))
        assert sentence(caught).isprintable()
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n", "git lfs pull"),
        (pickle.dumps({"a": 1}), "a pickle"),
        (b"PK\x03\x04" + bytes(100), "torch.save"),
        (b"<!DOCTYPE html><html>404</html>", "page of the web"),
        (b"\x10\0\0", "cut short: it has 3 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "cut short"),
        (struct.pack("<Q", 17 << 20) + b"{" + b" " * ((17 << 20) - 2) + b"}", "are read at most"),
        (struct.pack("<Q", 84) + b'{"a\\u001b":{"dtype":"F\\u001b32","shape":[1000000000000],'
         b'"data_offsets":[0,400]}}    ', "damaged"),
    ],
    ids=["LFS", "pickle", "archive", "web", "three bytes", "huge header", "long header", "dtype"],
)  # fmt: skip
def test_other_files_are_told_for_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        check(path)
    assert sentence(caught).isprintable()


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    (tmp_path / "loose.safetensors").symlink_to("nowhere")
    for name, words in (("pipe", "named pipe"), ("zero", "device"), ("loose", "link")):
        path = tmp_path / f"{name}.safetensors"
        with pytest.raises(UsageError, match=words):
            identity_of("small", str(path))
        with pytest.raises(UsageError, match=words):
            check(path)


def test_old_files_without_batch_counters_are_fine(tmp_path: Path) -> None:
    state = {k: v for k, v in other_weights().items() if "num_batches" not in k}
    check(saved(tmp_path, state))
    model = small_conv()
    found = fitted(state, model, layout_of(model, EXAMPLE), "it")
    assert found.tensors.keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"not a header at all", b"\xff" * 64, pickle.dumps({"a": 1})],
    ids=["empty", "one byte", "text", "a huge header", "a pickle"],
)
def test_a_file_that_only_has_the_name_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not a safetensors file") as caught:
        check(path)
    assert str(path) in sentence(caught)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, other_weights())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UsageError, match="is not a safetensors file"):
        check(path)


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.ckpt", "w.bin", "weights", "w.npz"])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save(other_weights(), path)
    with pytest.raises(UsageError, match="only safetensors files are read") as caught:
        identity_of("small", str(path))
    assert "save_file" in sentence(caught)


def test_a_folder_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    for given in ("folder.safetensors", "none.safetensors", "none.pt", "."):
        with pytest.raises(UsageError, match="--weights") as caught:
            identity_of("small", str(tmp_path / given))
        sentence(caught)


def test_an_identity_is_the_files_content(tmp_path: Path) -> None:
    one = saved(tmp_path, other_weights(), "a.safetensors")
    same = saved(tmp_path, other_weights(), "b.safetensors")
    other = saved(tmp_path, other_weights(7), "c.safetensors")
    assert identity_of("m", str(one)) == identity_of("m", str(same))
    assert identity_of("m", str(one)) != identity_of("m", str(other))
    assert (
        identity_of("m", str(one)) == f"sha256:{hashlib.sha256(one.read_bytes()).hexdigest()[:16]}"
    )


def test_a_file_that_changed_since_the_plan_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, other_weights())
    identity = identity_of("small", str(path))
    saved(tmp_path, other_weights(7))
    with pytest.raises(UsageError, match="changed since the run was planned"):
        load("small", identity, path)
    path.unlink()
    with pytest.raises(UsageError):
        load("small", identity, path)


def test_a_network_of_ones_own_has_no_published_weights() -> None:
    with pytest.raises(UsageError, match="lenet-5 has no published weights"):
        identity_of("lenet-5", "DEFAULT")


# -- classifiers for other classes -----------------------------------------------------------------


def test_a_classifier_for_other_classes_stays_as_initialised() -> None:
    torch.manual_seed(1)
    model = small_conv()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = other_weights(classes=7)
    found = fitted(state, model, layout_of(model, EXAMPLE), "it")
    assert set(found.fresh) == {"fc1.weight", "fc1.bias"}
    for name, value in found.tensors.items():
        assert torch.equal(value, before[name] if name in found.fresh else state[name])


def test_a_classifier_is_taken_whole_or_not_at_all() -> None:
    model = small_conv()
    state = other_weights() | {"fc1.weight": torch.rand(4, 128)}
    try:
        found = fitted(state, model, layout_of(model, EXAMPLE), "it")
    except UsageError:
        return
    assert set(found.fresh) == {"fc1.weight", "fc1.bias"}


# -- trials ----------------------------------------------------------------------------------------


def trial_from(make_trial: MakeTrial, weights: FittedWeights | None, **more: Any) -> Trial:
    made = make_trial(small_conv, **more)
    made._image_counter.remove()
    setting = dataclasses.replace(made._inputs, weights=weights)
    return RunningTrial(made.model, made.layout, setting)


def test_exact_weights_are_the_start_and_nothing_is_trained(make_trial: MakeTrial) -> None:
    state = other_weights()
    trial = trial_from(make_trial, FittedWeights(state))
    Dense().prune(trial)
    assert trial._ledger.cost.epochs == trial._ledger.cost.images_forward == 0
    found = trial.model.state_dict()
    assert all(torch.equal(found[k], v) for k, v in state.items())
    assert trial.snapshot().clock == trial.epochs


def test_a_fresh_classifier_means_one_training_from_the_weights(make_trial: MakeTrial) -> None:
    state = other_weights()
    trial = trial_from(make_trial, FittedWeights(state, ("fc1.weight", "fc1.bias")), epochs=2)
    Dense().prune(trial)
    assert trial._ledger.cost.epochs == 2
    by_hand = make_trial(small_conv, epochs=2)
    by_hand.model.load_state_dict(state)
    by_hand.train()
    expected = by_hand.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in trial.model.state_dict().items())


def test_a_method_goes_on_from_the_weights(make_trial: MakeTrial) -> None:
    trial = trial_from(make_trial, FittedWeights(other_weights()), target=2.0, epochs=1)
    Magnitude(retrain="none").prune(trial)
    weight = other_weights()["conv2.weight"]
    mask = trial.masks["conv2.weight"]
    assert torch.equal(trial.model.conv2.weight[mask], weight[mask])
    assert trial._ledger.cost.epochs == 0
    assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_weights_are_not_changed_by_the_trial_that_uses_them(make_trial: MakeTrial) -> None:
    given = FittedWeights(other_weights(), ("fc1.weight", "fc1.bias"))
    trial = trial_from(make_trial, given, epochs=1)
    Dense().prune(trial)
    expected = other_weights()
    assert all(torch.equal(v, expected[k]) for k, v in given.tensors.items())


def test_the_control_of_a_method_that_never_trained_never_trains(make_trial: MakeTrial) -> None:
    made = trial_from(make_trial, None)
    made._image_counter.remove()
    reference = Reference("pretrained", (), 1.0, False, {}, epochs=0)
    setting = dataclasses.replace(
        made._inputs, weights=FittedWeights(other_weights()), reference=reference
    )
    trial = RunningTrial(made.model, made.layout, setting)
    Dense().prune(trial)
    assert trial._ledger.cost.epochs == 0


# -- networks of torchvision -----------------------------------------------------------------------


def weights_of(name: str) -> PublishedWeights | None:
    return about(Registry().model(f"torchvision:{name}")).weights


def test_unknown_networks_and_weights_suggest_known_ones() -> None:
    registry = Registry()
    with pytest.raises(UnknownName, match="Did you mean.*'resnet18'"):
        registry.model("torchvision:resnet-18")
    for name in ("torchvision:", "torchvision:fcn_resnet50", "torchvision:raft_small"):
        with pytest.raises(UnknownName):
            registry.model(name)
    with pytest.raises(UnknownName, match="IMAGENET1K_V1"):
        identity_of("torchvision:resnet18", "IMAGENET1K_V9", weights_of("resnet18"))
    assert identity_of("torchvision:resnet50", "DEFAULT", weights_of("resnet50")) == "IMAGENET1K_V2"
    assert (
        identity_of("torchvision:resnet50", "IMAGENET1K_V1", weights_of("resnet50"))
        == "IMAGENET1K_V1"
    )


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_a_network_takes_images_of_one_channel_and_any_number_of_classes(name: str) -> None:
    build = Registry().model(f"torchvision:{name}")
    for channels, classes in ((1, 3), (4, 2)):
        model = build(classes, (channels, 64, 64)).eval()
        with torch.no_grad():
            assert model(torch.zeros(2, channels, 64, 64)).shape == (2, classes)
    like = torchvision.models.get_model(name, weights=None, num_classes=3)
    own = {k: tuple(v.shape) for k, v in build(3, (3, 64, 64)).state_dict().items()}
    assert own == {k: tuple(v.shape) for k, v in like.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_with_auxiliary_heads_put_out_one_tensor(name: str) -> None:
    build = Registry().model(f"torchvision:{name}")
    model = build(3, (3, 96, 96)).train()
    out = model(torch.randn(2, 3, 96, 96))
    assert out.shape == (2, 3)
    cross_entropy(out, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not any(k.lower().startswith("aux") for k in model.state_dict())


def cached(hub: Path, name: str, state: State) -> None:
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    torch.save(state, hub / url.rpartition("/")[2])


def published(
    name: str, classes: int = 1000, channels: int = 3
) -> tuple[FittedWeights, State, nn.Module]:
    """Load published weights into a network of our own as a trial does."""
    torch.manual_seed(5)
    network = Registry().model(f"torchvision:{name}")(classes, (channels, 96, 96))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    identity = identity_of(f"torchvision:{name}", "DEFAULT", weights_of(name))
    tensors = load(f"torchvision:{name}", identity, None, weights_of(name))
    layout = layout_of(network, torch.zeros(1, channels, 96, 96))
    return fitted(tensors, network, layout, "they do not fit"), before, network


def test_a_download_is_told_on_stderr_so_that_json_stays_json(
    hub: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def download(url: str, file: str, *args: Any, **more: Any) -> None:
        print(f"Downloading {url}")
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), file)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    published("squeezenet1_1")
    told = capsys.readouterr()
    assert told.out == ""
    assert "Downloading" in told.err


def test_published_weights_come_from_the_hub_cache(hub: Path) -> None:
    torch.manual_seed(9)
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    cached(hub, "squeezenet1_1", state)
    found, before, _ = published("squeezenet1_1", classes=3)
    assert set(found.fresh) == {"classifier.1.weight", "classifier.1.bias"}
    for key, value in found.tensors.items():
        assert torch.equal(value, before[key] if key in found.fresh else state[key])
    exact, *_ = published("squeezenet1_1")
    assert exact.fresh == ()


def test_published_weights_for_colour_do_not_fit_grey_images(hub: Path) -> None:
    cached(hub, "squeezenet1_1", torchvision.models.squeezenet1_1(weights=None).state_dict())
    with pytest.raises(UsageError, match=r"features.0.weight.*\(64, 3, 3, 3\).*\(64, 1, 3, 3\)"):
        published("squeezenet1_1", channels=1)


@pytest.mark.slow
def test_auxiliary_heads_of_published_weights_are_left_out(hub: Path) -> None:
    state = torchvision.models.googlenet(weights=None, init_weights=False).state_dict()
    assert any(k.startswith("aux1.") for k in state)
    cached(hub, "googlenet", state)
    found, *_ = published("googlenet")
    assert found.fresh == ()


@pytest.mark.slow
def test_published_weights_of_densenets_fit_in_spite_of_their_old_names(hub: Path) -> None:
    state = torchvision.models.densenet121(weights=None).state_dict()
    old = {}
    for key, value in state.items():
        if not key.endswith("num_batches_tracked"):  # newer than the published files
            old[re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key)] = value
    assert any(".norm.1.weight" in key for key in old)
    cached(hub, "densenet121", old)
    torchvision.models.densenet121(weights="DEFAULT")  # torchvision itself takes them
    found, *_ = published("densenet121")
    assert found.fresh == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_published_weights_compute_what_torchvisions_own_network_computes(
    hub: Path, name: str
) -> None:
    torch.manual_seed(0)
    maker = getattr(torchvision.models, name)
    cached(hub, name, maker(weights=None, init_weights=False).state_dict())
    theirs = maker(weights="DEFAULT").eval()
    given, _, ours = published(name)
    ours.load_state_dict(given.tensors)
    x = torch.randn(2, 3, 96, 96)
    fed = []
    for model in (ours.eval(), theirs):
        first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda m, args: fed.append(args[0]))
        with torch.no_grad():
            model(x)
    assert torch.allclose(*fed)


def test_a_download_that_fails_is_one_sentence(hub: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load("torchvision:squeezenet1_1", "IMAGENET1K_V1", None, weights_of("squeezenet1_1"))
    text = sentence(caught)
    assert "cannot be downloaded" in text
    assert "no network here" in text
    assert "--weights FILE.safetensors" in text


@pytest.mark.parametrize("content", [b"", b"garbage", b"<html>404</html>"])
def test_a_damaged_file_in_the_hub_cache_is_one_sentence(hub: Path, content: bytes) -> None:
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    (hub / url.rpartition("/")[2]).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load("torchvision:squeezenet1_1", "IMAGENET1K_V1", None, weights_of("squeezenet1_1"))
    sentence(caught)


# -- plans -----------------------------------------------------------------------------------------


def plan(**request: Any) -> Plan:
    given = {"methods": "magnitude", "models": f"{SMALL_NET}:build", "targets": "2", "seeds": "0",
             "budget": "smoke"}  # fmt: skip
    return make_plan(Registry(), [Request(**(given | request))])


def file_for_small_net(tmp_path: Path, classes: int = 10) -> Path:
    build = Registry().model(f"{SMALL_NET}:build")
    return saved(tmp_path, build(classes, (1, 28, 28)).state_dict())


def test_weights_and_coupling_are_part_of_an_id_only_if_given(tmp_path: Path) -> None:
    path = file_for_small_net(tmp_path)
    plain, tied = plan(), plan(coupling="tied")
    assert list(plain.trials) == list(tied.trials)
    for spec in plain.trials.values():
        assert not {"weights", "coupling"} & spec.as_json().keys()
        assert TrialSpec.from_json(spec.as_json()) == spec
    branch, loaded = plan(coupling="branch"), plan(weights=str(path))
    both = plan(weights=str(path), coupling="branch")
    ids = [set(p.trials) for p in (plain, branch, loaded, both)]
    assert len(set.union(*ids)) == sum(map(len, ids))
    assert {s.weights for s in loaded.trials.values()} == {identity_of("", str(path))}
    assert {s.coupling for s in both.trials.values()} == {"branch"}


def test_the_name_of_a_file_is_no_part_of_an_id(tmp_path: Path) -> None:
    path = file_for_small_net(tmp_path)
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(path.read_bytes())
    assert list(plan(weights=str(path)).trials) == list(plan(weights=str(moved)).trials)


def test_methods_that_start_from_initialisation_are_told_and_planned_without(
    tmp_path: Path,
) -> None:
    path = file_for_small_net(tmp_path)
    made = plan(methods="magnitude,dropnet,edropout,random", weights=str(path))
    with_weights = {s.method for s in made.trials.values() if s.weights}
    without = {s.method for s in made.trials.values() if not s.weights}
    assert with_weights == {"magnitude", "random", "dense"}  # random: magnitude's control
    assert without == {"dropnet", "edropout", "random", "dense"}
    (note,) = made.notes
    assert "magnitude" not in note
    assert "dense" not in note
    assert all(name in note for name in ("dropnet", "edropout", "random", str(path)))
    assert plan(methods="magnitude", weights=str(path)).notes == []
    assert plan(methods="dropnet").notes == []


def test_options_decide_whether_weights_are_of_use(tmp_path: Path) -> None:
    path = file_for_small_net(tmp_path)
    made = plan(weights=str(path), options={"magnitude": {"start": "init"}})
    assert made.notes
    assert not any(s.weights for s in made.trials.values())
    both = plan(weights=str(path), options={"magnitude": {"start": ["init", "pretrained"]}})
    found = {s.options.get("start", "pretrained"): s.weights for s in both.trials.values()
             if s.method == "magnitude"}  # fmt: skip
    assert found == {"init": None, "pretrained": identity_of("", str(path))}


def test_a_file_that_does_not_fit_stops_the_plan(tmp_path: Path) -> None:
    path = saved(tmp_path, other_weights())
    with pytest.raises(UsageError, match="does not fit") as caught:
        plan(weights=str(path))
    sentence(caught)
    plan(weights=str(file_for_small_net(tmp_path, classes=7)))  # a classifier may differ


def test_the_augmentation_of_the_data_goes_into_the_recipe(tmp_path: Path) -> None:
    source = (
        "import torch\nfrom bench.api import Dataset, Images, Split\n\n"
        "class Mine(Dataset):\n    name = 'mine'\n"
        "    shape = (1, 28, 28)\n    classes = 10\n    mean = (0.5,)\n    std = (0.5,)\n"
        "    augment = 'flip+crop'\n    def load(self, root):\n"
        "        x = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)\n"
        "        return Split(*[Images(x, torch.arange(10))] * 3)\n"
    )
    (tmp_path / "mine.py").write_text(source)
    registry = Registry([tmp_path / "mine.py"])

    def recipe(dataset: str, **options: Any) -> Any:
        asked = Request(methods="dense", models=f"{SMALL_NET}:build", datasets=dataset, seeds="0",
                        options={"recipe": options} if options else {})  # fmt: skip
        (spec,) = make_plan(registry, [asked]).trials.values()
        return spec.recipe

    assert recipe("mine")["augment"] == "flip+crop"
    assert "augment" not in recipe("mnist-5k")
    assert "augment" not in recipe("mine", augment="none")
    assert recipe("mnist-5k", augment="cutout")["augment"] == "cutout"


def test_an_unknown_augmentation_stops_the_plan() -> None:
    with pytest.raises(UsageError, match="flop"):
        plan(options={"recipe": {"augment": "flop"}})


def test_published_weights_are_loaded_beside_a_file_of_another_block(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    cached(hub, "squeezenet1_1", state)
    network = Registry().model("torchvision:squeezenet1_1")(1000, (3, 64, 64))
    spec = TrialSpec("dense", 1, "torchvision:squeezenet1_1", "x", 0, weights="IMAGENET1K_V1")
    context = SweepContext(RunConfig(out=tmp_path, weights_file=file_for_small_net(tmp_path)))
    found = _weights(context, spec, network, layout_of(network, torch.zeros(1, 3, 64, 64)))
    assert found is not None
    assert found.fresh == ()


def test_a_trial_whose_file_is_not_given_again_says_so(tmp_path: Path) -> None:
    model = small_conv()
    spec = TrialSpec("dense", 1, "small", "x", 0, weights="sha256:0123456789abcdef")
    context = SweepContext(RunConfig(out=tmp_path))
    with pytest.raises(TrialFailed, match="--weights FILE"):
        _weights(context, spec, model, layout_of(model, EXAMPLE))
