"""Models by name and weights from files: prefixes, classifiers of other tasks, frozen and broken ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from triaxis.errors import ConfigError, StoreError, UnsupportedModelError
from triaxis.models.cifar import densenet, resnet
from triaxis.models.weights import load_model, read_weights
from triaxis.models.zoos import build, unwrap
from triaxis.store.checkpoints import load_into, save_checkpoint

EIGHT = "cifar:resnet8"


@pytest.mark.parametrize(
    ("model", "convolutions"),
    [(resnet(20), 21), (resnet(56), 57), (densenet(40), 39), (densenet(16), 15)],
)
def test_the_papers_families_have_the_layers_their_names_say(model, convolutions):
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(found) == convolutions  # a ResNet's two shortcuts beside its 6n+1 convolutions
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_published_parameter_counts_are_met():
    assert sum(p.numel() for p in resnet(20).parameters()) == pytest.approx(0.27e6, rel=0.02)
    assert sum(p.numel() for p in resnet(56).parameters()) == pytest.approx(0.85e6, rel=0.02)
    assert sum(p.numel() for p in densenet(40).parameters()) == pytest.approx(1.0e6, rel=0.03)


def test_depths_that_are_none_are_refused():
    with pytest.raises(ConfigError, match=r"6n\+2.*got 21"):
        resnet(21)
    with pytest.raises(ConfigError, match=r"3n\+4.*got 41"):
        densenet(41)


@pytest.mark.parametrize("name", [EIGHT, "cifar:densenet16", "torchvision:resnet18", "timm:resnet18"])
def test_every_zoo_gives_the_number_of_classes(name):
    assert build(name, {}, 7).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("torchvision:resnet81", "did you mean resnet"),
        ("timm:resnet181", "did you mean"),
        ("cifar:vgg", "cifar:resnet20"),
        ("cifar:resnt20", r"did you mean cifar:resnet20\?"),
        ("cifr:resnet20", r"zoos' models are cifar:NAME, torchvision:NAME, timm:NAME, unet:NAME, .*did you mean cifar:resnet20\?"),
        ("tim:resnet1888", "did you mean timm:resnet18"),
        ("resnet18", "did you mean torchvision:resnet18 or timm:resnet18"),
        ("timm:resnet18.no_such_tag", r"must fit timm:resnet18\.no_such_tag"),
        ("timm:hf-hub:somebody/resnet18", "must have a model of that name"),
        ("", "must name an importable"),
        (".a:b", "must name an importable"),
        ("json:no_such", "no_such"),
        ("collections:Counter", r"must return a torch\.nn\.Module, got Counter"),
    ],
)
def test_unknown_models_are_named_with_the_nearest(name, words):
    with pytest.raises(ConfigError, match=words):
        build(name, {}, 10)


def test_a_misspelt_model_hears_nothing_of_data():
    with pytest.raises(ConfigError) as caught:
        build("cifr:resnet20", {}, 10)
    assert "data" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"colour": 3}, r"model\.args must fit cifar:resnet8"),
        ({"width": "wide"}, r"model\.args must fit cifar:resnet8"),
        ({"width": float("nan")}, "width must be a number between"),
        ({"width": 0.0}, "above 0 and at most 100"),
        ({"checkpoint_path": "weights.pth"}, r"name a file of weights as model\.weights"),
        ({"width": "../there"}, "no path or address"),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, "nested at most 4 deep"),
    ],
)
def test_wrong_arguments_are_a_sentence(args, words):
    with pytest.raises(ConfigError, match=words):
        build(EIGHT, args, 10)


def test_arguments_with_usual_names_pass():
    args = {"drop_path_rate": 0.1, "act_layer": "silu", "global_pool": "avg", "layers": [1, 1, 1, 1], "block_args": None}
    assert build("timm:resnet18", args, 3).num_classes == 3


@pytest.fixture
def trained() -> nn.Module:
    torch.manual_seed(5)
    return build(EIGHT, {}, 10)


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_wrappers_are_taken_off_the_names(trained, tmp_path, prefix, nested):
    state = {prefix + key: value for key, value in trained.state_dict().items()}
    torch.save({nested: state, "epoch": 3} if nested else state, tmp_path / "weights.pt")
    loaded = load_model(EIGHT, {}, 10, str(tmp_path / "weights.pt"))
    assert equal(loaded.model, trained) and loaded.is_trained


def test_safetensors_are_read(trained, tmp_path):
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    assert equal(load_model(EIGHT, {}, 10, str(tmp_path / "weights.safetensors")).model, trained)


def test_a_classifier_of_another_task_is_left_out_and_needs_training(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_model(EIGHT, {}, 4, str(tmp_path / "weights.safetensors"))
    assert not loaded.is_trained
    assert loaded.model.fc.weight.shape[0] == 4
    assert torch.equal(loaded.model.conv1.weight, trained.conv1.weight)


def test_weights_of_another_network_are_refused(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UnsupportedModelError, match="tensors are missing"):
        load_model("cifar:resnet14", {}, 10, str(tmp_path / "weights.safetensors"))
    with pytest.raises(UnsupportedModelError, match="another shape"):
        load_model(EIGHT, {"width": 0.5}, 10, str(tmp_path / "weights.safetensors"))


def test_nan_in_the_weights_is_named(tmp_path, trained):
    trained.stages[1][0].conv1.weight.data[0, 0, 0, 0] = float("inf")
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(UnsupportedModelError, match=r"stages\.1\.0\.conv1\.weight"):
        load_model(EIGHT, {}, 10, str(tmp_path / "weights.safetensors"))


class Trap:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trap-was-sprung"),))


def test_a_pickle_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": Trap()}))
    torch.save({"state_dict": Trap()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(ConfigError, match="checkpoint of tensors alone"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "trap-was-sprung").exists()


def test_missing_and_broken_files_are_sentences(tmp_path):
    with pytest.raises(ConfigError, match="existing file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"12345678 not safetensors")
    with pytest.raises(ConfigError, match="must be a safetensors file"):
        read_weights(tmp_path / "broken.safetensors")


@pytest.mark.parametrize("text", ["hello\n", "this is text", "", "accuracy: 3", "<html>", "u", "jabc", "version https\n"])
def test_a_text_file_is_no_file_of_weights(tmp_path, text):
    (tmp_path / "weights.pth").write_text(text)
    with pytest.raises(ConfigError, match=r"weights\.pth must be a safetensors file or a checkpoint of tensors alone"):
        read_weights(tmp_path / "weights.pth")


def test_wrapped_models_are_unwrapped_in_whatever_order_they_were_wrapped(trained):
    assert unwrap(trained) is trained
    assert unwrap(nn.DataParallel(trained)) is trained
    assert unwrap(torch.compile(nn.DataParallel(torch.compile(trained)))) is trained


def test_networks_that_want_version_numbers_are_loaded_too(tmp_path):
    torch.manual_seed(1)
    model = build("torchvision:mnasnet0_5", {}, 10)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    assert equal(load_model("torchvision:mnasnet0_5", {}, 10, str(tmp_path / "weights.safetensors")).model, model)


def test_the_weights_of_another_network_are_no_checkpoint_of_this_one(tmp_path, trained):
    path = save_checkpoint(tmp_path / "base.safetensors", build("cifar:resnet14", {}, 10).state_dict())
    with pytest.raises(StoreError, match="belongs to another one"):
        load_into(trained, path)
