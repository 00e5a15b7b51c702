"""Samples: every kind of source gives the same batches, and every bad one is refused in one clear line."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeq.calibration.data import Dataset, open_dataset
from edgeq.calibration.preprocessing import Preprocessing
from edgeq.calibration.specs import InputSpec, input_specs
from edgeq.errors import DataError, UsageError

FLOAT = np.dtype(np.float32)
VECTOR = (InputSpec("input", (None, 4), FLOAT),)
IMAGE = (InputSpec("image", (None, 3, 8, 8), FLOAT),)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(10, 4)).astype(np.float32)
Y = np.arange(10)


def everything(dataset: Dataset, size: int) -> np.ndarray:
    return np.concatenate([batch.inputs[dataset.specs[0].name] for batch in dataset.batches(size)])


def test_specs_of_a_graphs_inputs() -> None:
    value = ir.Value(name="a", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch", 3]))
    assert input_specs([value]) == (InputSpec("a", (None, 3), np.dtype(np.int64)),)


@pytest.mark.parametrize("compressed", [True, False])
def test_npz_batches_equal_the_arrays(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", x=X, y=Y)
    dataset = open_dataset(tmp_path / "d.npz", VECTOR)
    batches = list(dataset.batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    np.testing.assert_array_equal(everything(dataset, 4), X)
    labels = dataset.labels()
    assert labels is not None
    np.testing.assert_array_equal(labels, Y)


def test_npy_holds_x(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", X)
    dataset = open_dataset(tmp_path / "d.npy", VECTOR)
    np.testing.assert_array_equal(everything(dataset, 3), X)
    assert not dataset.labelled


def test_arrays_are_found_by_the_inputs_names(tmp_path: Path) -> None:
    specs = (InputSpec("ids", (None, 4), np.dtype(np.int64)), InputSpec("mask", (None, 4), FLOAT))
    np.savez(tmp_path / "d.npz", mask=X, ids=np.ones((10, 4), np.int32), labels=Y, column=Y)
    batch = next(open_dataset(tmp_path / "d.npz", specs).batches(10))
    assert list(batch.inputs) == ["ids", "mask"]
    assert batch.inputs["ids"].dtype == np.int64
    np.testing.assert_array_equal(batch.labels, Y)


@given(
    indices=st.lists(st.integers(0, 9), min_size=1, unique=True),
    size=st.integers(1, 11),
    kind=st.sampled_from(["npz", "npy", "arrays", "function"]),
)
def test_any_subset_is_given_in_ascending_order(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int], size: int, kind: str
) -> None:
    folder = tmp_path_factory.mktemp("data")
    np.savez_compressed(folder / "d.npz", x=X)
    np.save(folder / "d.npy", X)
    sources = {
        "npz": folder / "d.npz",
        "npy": folder / "d.npy",
        "arrays": {"x": X},
        "function": lambda: [X[:3], X[3:4], X[4:]],
    }
    dataset = open_dataset(sources[kind], VECTOR)  # type: ignore[arg-type]
    found = np.concatenate([b.inputs["input"] for b in dataset.batches(size, indices)])
    np.testing.assert_array_equal(found, X[sorted(indices)])
    np.testing.assert_array_equal(everything(dataset.subset(indices), size), X[sorted(indices)])


def test_whole_inputs_come_one_by_one() -> None:
    specs = (InputSpec("state", (2, None, 3), FLOAT), InputSpec("rate", (), np.dtype(np.int64)))
    states = GENERATOR.normal(size=(5, 2, 1, 3)).astype(np.float32)
    dataset = open_dataset({"state": states, "rate": np.array(16000)}, specs)
    batches = list(dataset.batches(32))
    assert [b.inputs["state"].shape for b in batches] == [(2, 1, 3)] * 5
    assert batches[0].inputs["rate"] == 16000
    assert len(set(dataset.hashes)) == 5


def write_images(folder: Path, labelled: bool) -> np.ndarray:
    pixels = GENERATOR.integers(0, 256, size=(4, 8, 8, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        place = folder / ("cat" if index < 2 else "dog") if labelled else folder
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{index}.png")
    return pixels


@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_of_images(tmp_path: Path, labelled: bool) -> None:
    pixels = write_images(tmp_path / "images", labelled)
    preprocessing = Preprocessing(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
    dataset = open_dataset(tmp_path / "images", IMAGE, preprocessing)
    expected = (pixels.astype(np.float32) / np.float32(255) - np.float32([0.5, 0.4, 0.3])) / np.float32([0.2, 0.2, 0.1])
    np.testing.assert_array_equal(everything(dataset, 3), expected.transpose(0, 3, 1, 2))
    labels = dataset.labels()
    assert (labels is not None) == labelled
    if labels is not None:
        assert labels.tolist() == [0, 0, 1, 1]


def test_stored_pixels_and_image_files_give_the_same_samples(tmp_path: Path) -> None:
    pixels = write_images(tmp_path / "images", labelled=False)
    np.savez(tmp_path / "d.npz", x=pixels)
    preprocessing = Preprocessing(resize=6, crop=(4, 4), mean=(0.5,), std=(0.2,))
    specs = (InputSpec("image", (None, 3, 4, 4), FLOAT),)
    files, stored = (open_dataset(tmp_path / n, specs, preprocessing) for n in ("images", "d.npz"))
    np.testing.assert_array_equal(everything(files, 4), everything(stored, 4))
    assert files.hashes == stored.hashes


def test_numbered_folders_are_the_labels(tmp_path: Path) -> None:
    for label in ("10", "9"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / label / "a.png")
    labels = open_dataset(tmp_path, IMAGE).labels()
    assert labels is not None
    assert sorted(labels.tolist()) == [9, 10]


def test_mean_above_one_is_of_pixels() -> None:
    assert Preprocessing.from_options(mean=(127,), std=(128,)).unit == 1.0
    assert Preprocessing.from_options(mean=(0.5,), std=(0.25,)).unit == 1 / 255
    with pytest.raises(UsageError, match="std above zero"):
        Preprocessing(std=(0.0,))


def test_reading_an_archive_takes_constant_memory(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.npz"
        np.savez_compressed(path, x=np.zeros((count, 64, 64), np.float32))
        dataset = open_dataset(path, (InputSpec("x", (None, 64, 64), FLOAT),))
        tracemalloc.start()
        for _ in dataset.batches(16):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    small, large = peak(64), peak(2048)
    # Sixteen samples are 256 kB; 2,048 would be 32 MB.
    assert large < small + 500_000


BAD_ARRAYS: dict[str, tuple[dict[str, np.ndarray], tuple[InputSpec, ...], str]] = {
    "empty": ({"x": X[:0]}, VECTOR, "no samples"),
    "labels": ({"x": X, "y": Y[:9]}, VECTOR, "10 samples but 9 labels"),
    "shape": ({"x": X[:, :3]}, VECTOR, r"\(3\) do not fit input 'input', which takes \(4\)"),
    "channels last": (
        {"x": np.zeros((2, 8, 8, 3), np.float32)}, IMAGE, r"transpose them \(sample.transpose\(2, 0, 1\)\)"
    ),
    "uint8": ({"x": np.zeros((2, 3, 8, 8), np.uint8)}, IMAGE, "give the --mean and --std"),
    "float ids": ({"x": X}, (InputSpec("ids", (None, 4), np.dtype(np.int64)),), "save whole numbers"),
    "names": ({"a": X, "b": X}, VECTOR, "holds a, b but the model's inputs are input"),
    "lengths": (
        {"a": X, "b": X[:5]},
        (InputSpec("a", (None, 4), FLOAT), InputSpec("b", (None, 4), FLOAT)),
        "a 10, b 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path: Path, case: str) -> None:
    arrays, specs, message = BAD_ARRAYS[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    for data in (tmp_path / "bad.npz", arrays):
        with pytest.raises(DataError, match=message) as caught:
            open_dataset(data, specs)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_not_finite_is_named(bad: float) -> None:
    x = X.copy()
    x[7, 2] = bad
    with pytest.raises(DataError, match="sample 7 holds NaN or infinity in input 'input'"):
        everything(open_dataset({"x": x}, VECTOR), 4)


def test_a_double_that_overflows_float32_is_not_finite() -> None:
    with pytest.raises(DataError, match="sample 0 holds NaN or infinity"):
        everything(open_dataset({"x": np.full((1, 4), 1e300)}, VECTOR), 4)


def test_large_but_finite_samples_pass() -> None:
    x = np.full((4, 4), 3e38, np.float32)
    np.testing.assert_array_equal(everything(open_dataset({"x": x}, VECTOR), 2), x)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=GENERATOR.normal(size=(200, 4)).astype(np.float32))
    data = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(data[: len(data) // 2])
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(bytes(flipped))
    (tmp_path / "text.npz").write_text("hello")
    np.save(tmp_path / "whole.npy", X)
    (tmp_path / "short.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-8])
    for name in ("short.npz", "flipped.npz", "text.npz", "short.npy"):
        with pytest.raises(DataError, match=name):
            everything(open_dataset(tmp_path / name, VECTOR), 8)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="never pickled objects"):
        open_dataset(tmp_path / "d.npz", VECTOR)


def test_fortran_order_and_foreign_archives_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", x=np.asfortranarray(X))
    with pytest.raises(DataError, match="Fortran order"):
        open_dataset(tmp_path / "f.npz", VECTOR)
    with zipfile.ZipFile(tmp_path / "z.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(DataError, match="cannot be read"):
        open_dataset(tmp_path / "z.npz", VECTOR)


def test_missing_and_unknown_sources(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "none.npz", VECTOR)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match="no known kind"):
        open_dataset(tmp_path / "a.csv", VECTOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(tmp_path / "empty", IMAGE)


def test_bad_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "mixed", labelled=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "mixed" / "loose.png")
    with pytest.raises(DataError, match="beside class-named subfolders"):
        open_dataset(tmp_path / "mixed", IMAGE)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"a\.png cannot be read"):
        open_dataset(tmp_path / "broken", IMAGE)
    (tmp_path / "sizes").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "sizes" / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "sizes" / "b.png")
    with pytest.raises(DataError, match=r"b\.png has shape .* give --resize"):
        everything(open_dataset(tmp_path / "sizes", IMAGE), 1)


def test_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_for_edgeq.py").write_text(
        "import numpy as np\n"
        "def batches():\n    for i in range(3): yield np.full((2, 4), i, np.float32), np.full(2, i)\n"
        "def raises():\n    raise RuntimeError('a\\nb')\n"
        "def nothing(): return []\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset("mine_for_edgeq:batches", VECTOR)
    assert len(dataset) == 6
    labels = dataset.labels()
    assert labels is not None
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    for name, message in {
        "raises": "raised RuntimeError: a b",
        "nothing": "gave no batches",
        "number": "not callable",
        "absent": "cannot be imported",
    }.items():
        with pytest.raises(DataError, match=message):
            open_dataset(f"mine_for_edgeq:{name}", VECTOR)
    with pytest.raises(DataError, match="cannot be imported"):
        open_dataset("no_such_module_at_all:batches", VECTOR)


def test_a_function_that_changes_its_mind_is_refused() -> None:
    calls: list[int] = []

    def batches() -> list[np.ndarray]:
        calls.append(1)
        return [X[: 4 + len(calls)]]

    dataset = open_dataset(batches, VECTOR)
    with pytest.raises(DataError, match="must repeat itself"):
        everything(dataset, 8)
