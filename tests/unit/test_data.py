"""Data sources and the batches they give."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secateur.data import ImageSet, list_data, open_data, open_text
from secateur.data.decode import decoded
from secateur.data.transform import augmented, resized
from secateur.spec import DataError


def picture(path: Path, *, colour: tuple[int, int, int] = (200, 100, 0), size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of cats and five of dogs, without a split; height 4, width 6."""
    for i in range(10):
        picture(tmp_path / "pictures" / "cat" / f"{i}.png", colour=(i, 0, 0))
    for i in range(5):
        picture(tmp_path / "pictures" / "dog" / f"{i}.png", colour=(0, i, 0))
    return tmp_path / "pictures"


def image_set(count: int = 10, shape: tuple[int, int, int] = (1, 4, 4), **options: object) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    given = {"images": images, "labels": torch.arange(count) % 2, "classes": ("a", "b"), "mean": (0.0,), "std": (1.0,)}
    return ImageSet(**{**given, **options})


def test_sources_have_a_line_each() -> None:
    assert [name for name, _ in list_data()] == ["cifar10", "cifar100", "csv", "digits", "folder", "mnist", "text"]
    assert all(description for _, description in list_data())


def test_digits_are_split_without_overlap() -> None:
    train, test = open_data("digits", "train"), open_data("digits", "test")
    assert (len(train), len(test)) == (1438, 359)
    assert train.input_shape == (1, 8, 8)
    assert torch.bincount(test.labels).min() >= 34
    assert train.images.max() == 255
    whole = next(train.batches(len(train)))[0]
    assert abs(whole.mean()) < 0.01
    assert abs(whole.std() - 1) < 0.01


def test_batches_are_normalised_and_ordered() -> None:
    data = image_set(mean=(0.5,), std=(0.25,))
    batches = list(data.batches(4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.allclose(batches[0][0], (data.images[:4] / 255 - 0.5) / 0.25)
    assert batches[0][1].dtype == torch.int64
    assert [len(labels) for _, labels in data.batches(4, drop_last=True)] == [4, 4]


def test_shuffling_follows_the_seed() -> None:
    data = image_set(64)
    first, again, other = (next(data.batches(64, shuffle=True, augment=True, seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    shuffled = next(data.batches(64, shuffle=True, seed=3))[0]
    assert not torch.equal(shuffled, data.images / 255)
    assert torch.equal(shuffled.sum((1, 2, 3)).sort().values, (data.images / 255).sum((1, 2, 3)).sort().values)


def test_subsets_are_drawn_by_seed_without_replacement() -> None:
    data = image_set(20)
    assert torch.equal(data.subset(5, 1).images, data.subset(5, 1).images)
    assert not torch.equal(data.subset(5, 1).images, data.subset(5, 2).images)
    assert torch.equal(data.subset(20).images, data.images)
    with pytest.raises(DataError, match="has 20"):
        data.subset(21)
    assert len(open_data("digits", "test", limit=7)) == 7
    assert len(open_data("digits", "test", limit=10_000)) == 359


def test_28_pixels_become_32_by_a_border() -> None:
    x = torch.rand(2, 1, 28, 28)
    padded = resized(x, (1, 32, 32))
    assert torch.equal(padded[:, :, 2:30, 2:30], x)
    assert padded[:, :, :2].sum() == 0
    assert resized(x, (1, 14, 20)).shape == (2, 1, 14, 20)


def test_grey_images_serve_three_channels_and_colour_never_one() -> None:
    images = next(open_data("digits", "test", input_shape=(3, 32, 32)).batches(2))[0]
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2])
    with pytest.raises(DataError, match="reads 1"):
        image_set(shape=(3, 4, 4), target_shape=(1, 4, 4))


def test_augmentation_shifts_and_mirrors() -> None:
    x = torch.zeros(64, 1, 16, 16)
    x[:, :, 8, 4] = 1
    moved = augmented(x, torch.Generator().manual_seed(0), mirror=False)
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 16, moved[:, 0].flatten(1).argmax(1) % 16
    assert set(rows.tolist()) == {6, 7, 8, 9, 10}
    assert set(columns.tolist()) == {2, 3, 4, 5, 6}
    near = augmented(x, torch.Generator().manual_seed(0), mirror=False, shift=1)[:, 0].flatten(1).argmax(1)
    assert set((near // 16).tolist()) == {7, 8, 9}
    assert set((near % 16).tolist()) == {3, 4, 5}
    mirrored = augmented(x, torch.Generator().manual_seed(0), mirror=True)
    assert (mirrored[:, 0].flatten(1).argmax(1) % 16 > 8).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": torch.full((10,), 2)}, r"unknown labels \[2\]"),
        ({"labels": torch.zeros(9, dtype=torch.int64)}, "10 images but 9 labels"),
        ({"images": torch.zeros(10, 1, 4, 4)}, "uint8"),
        ({"shift": -1}, "shift=-1"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        image_set(**options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", "digits"),
        ("digits:x", "reads no file"),
        ("folder", "folder:DIR"),
        ("mnist:/nowhere.npz", "no such file"),
    ],
)
def test_unusable_specs_are_refused(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(spec, "train")


@pytest.mark.parametrize("spec", ["mnist", "cifar10", "cifar100"])
def test_missing_data_names_the_variable(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECATEUR_DATA", raising=False)
    with pytest.raises(DataError, match="SECATEUR_DATA"):
        open_data(spec, "train")
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    with pytest.raises(DataError, match="give a path"):
        open_data(spec, "train")


def test_mnist_is_read(data_dir: Path) -> None:
    data = open_data("mnist", "test", input_shape=(1, 32, 32))
    assert (len(data), data.input_shape, data.images.shape[2]) == (10_000, (1, 32, 32), 28)
    assert torch.bincount(data.labels)[:4].tolist() == [980, 1135, 1032, 1010]


def test_cifar_is_read_from_an_npz_file(data_dir: Path) -> None:
    data = open_data(f"cifar10:{data_dir / 'cifar10-subset.npz'}", "test")
    assert (len(data), data.input_shape) == (932, (3, 32, 32))
    assert data.classes[0] == "airplane"


def npz(path: Path, **changes: np.ndarray) -> Path:
    arrays = {
        "x_train": np.zeros((4, 28, 28), np.uint8),
        "y_train": np.arange(4, dtype=np.uint8),
        "x_test": np.zeros((2, 28, 28), np.uint8),
        "y_test": np.arange(2, dtype=np.uint8),
    }
    np.savez(path, **{**arrays, **changes})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((4, 28, 28), np.float32)}, "must be uint8"),
        ({"y_train": np.zeros(3, np.uint8)}, "must be 4 integers"),
        ({"y_train": np.full(4, 11, np.uint8)}, "unknown labels"),
        ({"y_train": np.array([{}] * 4, dtype=object)}, "cannot read y_train"),
    ],
)
def test_odd_arrays_are_refused(changes: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_data(f"mnist:{npz(tmp_path / 'm.npz', **changes)}", "train")


def test_damaged_arrays_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    whole = npz(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "vast.npz").write_bytes(whole.replace(b"(4, 28, 28)", b"(9999999,9)"))
    (tmp_path / "lying.npz").write_bytes(whole.replace(b"(4, 28, 28)", b"(9, 28, 28)"))
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("vast", "lying", "cut"):
        with pytest.raises(DataError, match=name):
            open_data(f"mnist:{tmp_path / name}.npz", "train")


def test_a_folder_without_a_split_gets_a_fixed_one(pictures: Path) -> None:
    train, test = open_data(f"folder:{pictures}", "train"), open_data(f"folder:{pictures}", "test")
    assert (len(train), len(test)) == (12, 3)
    assert train.classes == ("cat", "dog")
    assert train.input_shape == (3, 4, 6)
    assert torch.bincount(test.labels).tolist() == [2, 1]
    seen = {tuple(image[:, 0, 0].tolist()) for image in (*train.images, *test.images)}
    assert len(seen) == 14  # (0, 0, 0) is a cat and a dog


def test_a_folder_with_a_split_keeps_it(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            for i in range(count):
                picture(tmp_path / split / name / f"{i}.jpg", size=(10 + i, 12))
    data = open_data(f"folder:{tmp_path}", "train", input_shape=(3, 8, 8))
    assert data.images.shape == (6, 3, 8, 8)
    assert open_data(f"folder:{tmp_path}", "train", limit=2).images.shape[0] == 2
    picture(tmp_path / "test" / "c" / "0.jpg")
    with pytest.raises(DataError, match="'c' does not occur"):
        open_data(f"folder:{tmp_path}", "test")


def test_broken_folders_name_the_file(pictures: Path) -> None:
    (pictures / "cat" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png: not a readable image"):
        for split in ("train", "test"):
            open_data(f"folder:{pictures}", split)
    (pictures / "emu").mkdir()
    with pytest.raises(DataError, match="emu: 0 images"):
        open_data(f"folder:{pictures}", "train")
    with pytest.raises(DataError, match="no class folders"):
        open_data(f"folder:{pictures / 'emu'}", "train")


def test_coloured_files_for_a_grey_model_are_refused(pictures: Path) -> None:
    with pytest.raises(DataError, match="reads one channel"):
        open_data(f"folder:{pictures}", "train", input_shape=(1, 4, 6))


def table(folder: Path, *lines: str, name: str = "data.csv") -> Path:
    """A table of these lines beside its images."""
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_grey_of_16_bits_is_scaled_and_of_32_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name, values in (("short", ramp), ("long", ramp.astype(np.int32))):
        Image.fromarray(values).save(tmp_path / f"{name}.tif")
    for mode, channels in (("L", 1), ("RGB", 3)):
        found = decoded(tmp_path / "short.tif", where="short.tif", mode=mode, size=None)
        assert np.array_equal(found, np.repeat(ramp[..., None] >> 8, channels, axis=2))
    with pytest.raises(DataError, match=r"long\.tif: grey of 32 bits"):
        decoded(tmp_path / "long.tif", where="long.tif", mode="L", size=None)


def test_a_table_without_a_split_is_read_as_a_folder_is(pictures: Path) -> None:
    """The same rows in the same order: the same images, labels and split."""
    rows = [f"{name}/{i}.png,{name}" for name, count in (("cat", 10), ("dog", 5)) for i in range(count)]
    file = table(pictures, "\ufeff Path ,LABEL", *rows[:7], "", ",", *rows[7:])
    for split in ("train", "test"):
        by_table, by_folder = open_data(f"csv:{file}", split), open_data(f"folder:{pictures}", split)
        assert torch.equal(by_table.images, by_folder.images)
        assert torch.equal(by_table.labels, by_folder.labels)
        assert by_table.classes == by_folder.classes
    few = [open_data(f"{source}:{pictures}", "train", limit=3, seed=4).images for source in ("csv", "folder")]
    assert torch.equal(*few)


def test_a_table_with_a_split_keeps_it(pictures: Path) -> None:
    rows = ["dog/0.png,10,train,x", "cat/1.png,2,Train,x", "dog/2.png,10,test,x", '"cat/3.png",2,test,"x, y"']
    file = table(pictures, "path,label,split,note", *rows, "cat/4.png,7,val,x", "cat/5.png,7,valid,x")
    train, test = open_data(f"csv:{file}", "train"), open_data(f"csv:{file}", "test")
    assert train.classes == test.classes == ("2", "10")
    assert train.labels.tolist() == [1, 0]
    assert [tuple(image[:, 0, 0].tolist()) for image in test.images] == [(0, 2, 0), (3, 0, 0)]
    assert train.name.endswith("(train; rows left out: 1 of val and 1 of valid)")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"data\.csv: no column 'path', found nothing"),
        (["path,label"], "no rows below the first line"),
        (["path,name", "cat/0.png,cat"], "line 1: no column 'label', found path, name"),
        (["path,label,Label", "cat/0.png,cat,dog"], "line 1: 2 columns 'label'"),
        (["path,label", "cat/0.png,cat", "cat/1.png"], "line 3: 1 columns, the first line has 2"),
        (["path,label", "cat/0.png, "], "line 2, column label: empty"),
        (["path,label", "cat/0.png,cat", "cat/99.png,cat"], "line 3, column path: no file 'cat/99.png'"),
        (["path,label", "../secret.png,cat"], r"line 2, column path: '\.\./secret\.png' leads out of"),
        (["path,label", "{outside}/secret.png,cat"], "line 2, column path: .* leads out of"),
        (["path,label", "link.png,cat"], "line 2, column path: 'link.png' leads out of"),
        (["path,label", "circle.png,cat"], "line 2, column path: "),
        (["path,label", "a\0b,cat"], "line 2"),
        (["path,label", f"{'a' * 300},cat"], "line 2, column path: .* is no path"),
        (["path,label", f"{'a' * 200_000},cat"], "line 2: field larger than field limit"),
        (["path,label", '"cat/0.png,cat'], "unexpected end of data"),
        (["path,label", "cat/0.png,cat", "cat/1.png,cat", "dog/0.png,dog"], "line 4, .*class 'dog' has this row alone"),
        (["path,label,split", "cat/0.png,cat,train", "cat/1.png,cat,dev"], "line 3, column split: got 'dev'"),
        (["path,label,split", "cat/0.png,cat,"], "line 2, column split: got ''"),
        (["path,label,split", "cat/0.png,cat,test"], "no row has the split train"),
        (["path,label,split", "cat/0.png,cat,train", "dog/0.png,dog,test"], "line 3, column label: class 'dog'"),
        (["path,label,split", "cat/0.png,cat,train", "cat/1.png,cat,val"], "class 'cat' has no test row; .*1 of val"),
        (["path,label", "cat/0.png,cat", "broken.png,cat"], "line 3, column path: .*broken.png: not a readable image"),
    ],
)
def test_unusable_tables_name_line_and_column(lines: list[str], message: str, pictures: Path) -> None:
    picture(pictures.parent / "secret.png")
    (pictures / "link.png").symlink_to(pictures.parent / "secret.png")
    (pictures / "circle.png").symlink_to(pictures / "circle.png")
    (pictures / "broken.png").write_bytes(b"no image")
    file = table(pictures, *(line.replace("{outside}", str(pictures.parent)) for line in lines))
    with pytest.raises(DataError, match=message) as caught:
        for split in ("train", "test"):
            open_data(f"csv:{file}", split)
    assert str(file) in str(caught.value)


def test_unusable_table_files_are_refused(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no file given"):
        open_data("csv", "train")
    with pytest.raises(DataError, match=r"data\.csv: no such file"):
        open_data(f"csv:{pictures}", "train")
    (pictures / "data.csv").write_bytes(b"path,label\ncat/0.png,k\xe4tzchen\n")
    with pytest.raises(DataError, match=r"data\.csv is not UTF-8 \(byte 22, in line 2, is 0xe4\)"):
        open_data(f"csv:{pictures}", "train")
    monkeypatch.setattr("secateur.data.table.MAX_TABLE_BYTES", 20)
    with pytest.raises(DataError, match="more than 20; give a part"):
        open_data(f"csv:{pictures}", "train")


def archive(path: Path, *, classes: int = 10, count: int = 2) -> Path:
    root = path.parent / "images"
    for split in ("train", "test"):
        for label in range(classes):
            for i in range(count):
                picture(root / split / f"class{label}" / f"{i}.png", colour=(label, i, 9), size=(32, 32))
    with tarfile.open(path, "w:xz") as tar:
        tar.add(root, "images")
    return path


def test_an_archive_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    spec = f"cifar10:{archive(tmp_path / 'c.tar.xz')}"
    first = open_data(spec, "train")
    assert (len(first), first.input_shape, first.classes[3]) == (20, (3, 32, 32), "class3")
    assert all(image[0, 0, 0] == label for image, label in zip(first.images, first.labels, strict=True))
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".npz"]
    monkeypatch.setattr("secateur.data.archive.decoded", None)
    assert torch.equal(open_data(spec, "train").images, first.images)
    assert len(open_data(spec, "test", limit=5)) == 5


def test_unusable_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="9 classes, expected 10"):
        open_data(f"cifar10:{archive(tmp_path / 'nine.tar.xz', classes=9)}", "train")
    cut = tmp_path / "cut.tar.xz"
    cut.write_bytes((tmp_path / "nine.tar.xz").read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable tar archive"):
        open_data(f"cifar10:{cut}", "train")


def test_the_pickled_cifar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").touch()
    with pytest.raises(DataError, match=r"numpy\.savez"):
        open_data(f"cifar10:{tmp_path}", "train")


def in_bytes(text: str) -> list[int]:
    return list(text.encode())


def test_text_is_cut_into_sequences_of_two_splits(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "second.txt").write_text("67890ä")
    (tmp_path / "a.txt").write_text("12345")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    train, test = (open_text(tmp_path, in_bytes, split, length=2) for split in ("train", "test"))
    assert [bytes(row.tolist()) for row in train.tokens_NL] == [b"12", b"34", b"56", b"78", b"90"]
    assert [bytes(row.tolist()) for row in test.tokens_NL] == ["ä".encode()]
    assert [batch["input_ids"].shape for batch in train.batches(3)] == [(3, 2), (2, 2)]
    drawn = open_text(tmp_path, in_bytes, "train", length=2, limit=3, seed=1)
    assert len(drawn) == 3
    assert torch.equal(drawn.tokens_NL, train.subset(3, seed=1).tokens_NL)
    with pytest.raises(DataError, match="has 5; give a number"):
        train.subset(6)


@pytest.mark.parametrize(
    ("content", "length", "message"),
    [
        (None, 4, "no such file or folder"),
        (b"", 4, "no text there"),
        (b"abc\xff", 4, r"text is not UTF-8 \(byte 3, in line 1, is 0xff\)"),
        (b"1234567", 4, "7 tokens, needs 8"),
        (b"1234567", 1, "at least 2"),
    ],
    ids=["missing", "empty", "not UTF-8", "too short", "nothing to predict"],
)
def test_unusable_text_is_refused(content: bytes | None, length: int, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "text").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_text(tmp_path / "text", in_bytes, "train", length=length)


def test_an_empty_folder_holds_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text there"):
        open_text(tmp_path, in_bytes, "train", length=4)


def test_text_is_no_set_of_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prune and evaluate of a language model"):
        open_data(f"text:{tmp_path}", "train")
