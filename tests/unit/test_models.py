"""Built-in networks, model sources and weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from secateur.models import build_model, example_inputs, list_models, load_weights, natural_input_shape
from secateur.spec import MissingExtraError, ModelError

NAMES = [name for name, _ in list_models()]
GREY = {"lenet5": (1, 32, 32), "lenet5-caffe": (1, 28, 28), "lenet300": (1, 28, 28)}


def test_the_list_of_models_is_complete() -> None:
    resnets = [f"resnet{depth}" for depth in (20, 32, 44, 56, 110)]
    assert set(NAMES) == {*GREY, "vgg9_bn", "vgg11_bn", "vgg16_bn", "vgg19_bn", *resnets}
    assert all(description for _, description in list_models())


@pytest.mark.parametrize("name", NAMES)
def test_built_in_models_run_on_their_example(name: str) -> None:
    model = build_model(name, num_classes=7).eval()
    inputs = example_inputs(name)
    assert natural_input_shape(name) == GREY.get(name, (3, 32, 32)) == tuple(inputs[0].shape[1:])
    with torch.no_grad():
        assert model(*inputs).shape == (1, 7)


@pytest.mark.parametrize("name", ["lenet5", "lenet300", "vgg9_bn", "vgg16_bn", "resnet20"])
def test_built_in_models_take_other_image_shapes(name: str) -> None:
    model = build_model(name, input_shape=(2, 40, 48)).eval()
    assert model(*example_inputs(name, input_shape=(2, 40, 48))).shape == (1, 10)


@pytest.mark.parametrize(("name", "shape"), [("lenet5", (1, 8, 8)), ("vgg16_bn", (3, 16, 16))])
def test_too_small_images_are_refused(name: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ModelError, match="needs at least"):
        build_model(name, input_shape=shape)


@pytest.mark.parametrize(
    ("name", "param_count"),
    [
        ("lenet5", 61_706),
        ("lenet300", 266_610),
        ("lenet5-caffe", 431_080),
        ("resnet20", 269_722),
        ("resnet56", 853_018),
    ],
)
def test_sizes_are_the_published_ones(name: str, param_count: int) -> None:
    assert sum(parameter.numel() for parameter in build_model(name).parameters()) == param_count


def test_vgg9_has_the_module_names_of_the_schema_file() -> None:
    names = {name.rsplit(".", 1)[0] for name, _ in build_model("vgg9_bn").named_parameters()}
    convs, norms = (0, 3, 7, 10, 14, 17), (1, 4, 8, 11, 15, 18)
    assert names == {f"features.{i}" for i in (*convs, *norms)} | {f"classifier.{i}" for i in (1, 4, 6)}


def test_option_a_shortcuts_pad_equally_on_both_sides() -> None:
    shortcut = build_model("resnet20").get_submodule("layer2.0.shortcut")
    assert (shortcut.before, shortcut.after) == (8, 8)
    x = torch.randn(2, 16, 8, 8)
    padded = shortcut(x)
    assert torch.equal(padded[:, 8:24], x[:, :, ::2, ::2])
    assert padded[:, :8].abs().sum() == padded[:, 24:].abs().sum() == 0


def test_the_seed_decides_the_weights_and_nothing_else() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = build_model("lenet5"), build_model("lenet5"), build_model("lenet5", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.fc1.weight, again.fc1.weight)
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rsnet20", "resnet20"),
        ("torchvision:resnet19", "resnet18"),
        ("timm:resnet18x", "resnet18"),
        ("torchvison:resnet18", "cannot import 'torchvison'"),
        ("collections:OrderedDic", "OrderedDict"),
        ("fractions:Fraction", "expected a torch.nn.Module"),
        ("hf:/nowhere", "no config.json"),
    ],
)
def test_unknown_models_are_refused_with_what_is_near(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(name)


def test_torchvision_and_timm_models_are_built() -> None:
    for name in ("torchvision:mobilenet_v3_small", "timm:lcnet_050"):
        assert natural_input_shape(name) == (3, 224, 224)
        model = build_model(name, num_classes=5).eval()
        with torch.no_grad():
            assert model(*example_inputs(name, input_shape=(3, 64, 64))).shape == (1, 5)


def test_timm_models_take_the_image_shape() -> None:
    model = build_model("timm:vit_tiny_patch16_224", num_classes=5, input_shape=(1, 32, 32)).eval()
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 5)


def test_detectors_get_a_list_and_video_networks_a_clip() -> None:
    assert example_inputs("torchvision:fcos_resnet50_fpn", input_shape=(3, 64, 64))[0][0].shape == (3, 64, 64)
    assert example_inputs("torchvision:r3d_18")[0].shape == (1, 3, 16, 112, 112)
    assert natural_input_shape("torchvision:r3d_18") is None


def test_a_torchvision_that_does_not_fit_torch_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(MissingExtraError, match="built for another torch"):
        build_model("torchvision:resnet18")


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtraError, match=r"secateur\[models\]"):
        build_model("timm:resnet18")


def test_factories_of_the_working_directory_are_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = "nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))"
    code = f"from torch import nn\ndef tiny(num_classes=3):\n    return {network}\n"
    (tmp_path / "own_networks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    name = "own_networks:tiny"
    assert build_model(name, num_classes=4)(*example_inputs(name, input_shape=(3, 2, 2))).shape == (1, 4)
    assert natural_input_shape(name) is None
    with pytest.raises(ModelError, match="give the shape of one image"):
        example_inputs(name)


BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 12,
}


@pytest.fixture
def hf_dir(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(BERT))
    return tmp_path


def test_local_hugging_face_folders_are_read(hf_dir: Path) -> None:
    name = f"hf:{hf_dir}"
    inputs = example_inputs(name)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (1, 12)
    assert natural_input_shape(name) is None
    assert build_model(name, num_classes=3).eval()(**inputs).logits.shape == (1, 3)


def test_hugging_face_weights_are_loaded(hf_dir: Path) -> None:
    original = build_model(f"hf:{hf_dir}", seed=3)
    original.save_pretrained(hf_dir)
    loaded = build_model(f"hf:{hf_dir}")
    assert all(torch.equal(a, b) for a, b in zip(original.parameters(), loaded.parameters(), strict=True))


def test_pickled_hugging_face_weights_are_refused(hf_dir: Path) -> None:
    (hf_dir / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match="pickled"):
        build_model(f"hf:{hf_dir}")


def test_code_of_a_hugging_face_folder_is_not_run(hf_dir: Path) -> None:
    own_code = {**BERT, "architectures": ["OwnModel"], "auto_map": {"AutoModel": "own.OwnModel"}}
    (hf_dir / "config.json").write_text(json.dumps(own_code))
    (hf_dir / "own.py").write_text("raise SystemExit('code was run')")
    with pytest.raises(ModelError, match="OwnModel"):
        build_model(f"hf:{hf_dir}")


@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_published_weights_load(name: str, data_dir: Path) -> None:
    file = data_dir / f"{name}-cifar10.safetensors"
    model = build_model(name)
    load_weights(model, file)
    stored = load_file(file)
    assert torch.equal(model.get_parameter("layer3.2.conv2.weight"), stored["layer3.2.conv2.weight"])


def test_weights_of_wrapped_models_lose_their_prefix(tmp_path: Path) -> None:
    source, target = build_model("lenet5", seed=1), build_model("lenet5")
    save_file({f"module.{name}": tensor for name, tensor in source.state_dict().items()}, tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert torch.equal(source.fc3.weight, target.fc3.weight)


def test_every_misfit_of_weights_is_listed_and_nothing_changed(tmp_path: Path) -> None:
    model = build_model("lenet5")
    before = model.fc2.weight.clone()
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    del state["fc1.bias"]
    state |= {"fc3.weight": torch.zeros(9, 84), "fc4.weight": torch.zeros(2)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        load_weights(model, tmp_path / "w.safetensors")
    for part in ("fc1.bias", "fc4.weight", r"(9, 84), model has (10, 84)", "3 places"):
        assert part in str(caught.value)
    assert torch.equal(model.fc2.weight, before)


def test_broken_values_are_refused_by_name(tmp_path: Path) -> None:
    model = build_model("lenet5")
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["conv2.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"conv2\.weight"):
        load_weights(model, tmp_path / "w.safetensors")


@pytest.mark.parametrize(("file", "message"), [("w.pt", "could run code"), ("w.safetensors", "not a readable")])
def test_other_files_are_refused(file: str, message: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"\x80\x02 something else")
    with pytest.raises(ModelError, match=message):
        load_weights(build_model("lenet5"), tmp_path / file)
    with pytest.raises(ModelError, match="no weights at"):
        load_weights(build_model("lenet5"), tmp_path / "absent.safetensors")
