"""The int8 image tower: as faithful as measured, and the same in any batch and any run."""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasette_clip_search.common.errors import EncoderUnavailable
from datasette_clip_search.models.towers.int8_session import Int8Session, features_of_noise
from datasette_clip_search.models.towers.making import quantize as int8
from datasette_clip_search.models.towers.making.checks import neighbour_agreement
from datasette_clip_search.models.towers.making.onnx_export import export_tower
from support.paths import DEMO_MODEL, DEMO_PICTURES

TESTDATA = os.environ.get("CLIP_SEARCH_TESTDATA")


class Case:
    """A model with the pixels of pictures: some to calibrate with, others to test with."""

    def __init__(self, model: Path, pictures: list[Path], calibrated: int, folder: Path):
        for module in ("onnx", "onnxscript", "onnxruntime", "open_clip"):
            pytest.importorskip(module)
        import open_clip
        import torch

        self.model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{model}")
        self.model.eval()
        size = self.model.visual.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        # In random order: neighbours in a folder are alike.
        order = np.random.default_rng(0).permutation(len(pictures))
        images = [Image.open(pictures[number]).convert("RGB") for number in order]
        pixels = np.stack([preprocess(image).numpy() for image in images])
        self.sample, self.others = pixels[:calibrated], pixels[calibrated:]
        with torch.inference_mode():
            self.exact = np.concatenate(
                [
                    self.model.encode_image(part).numpy()
                    for part in torch.tensor(self.others).split(8)
                ]
            )
        self.file, quantized = folder / "float32.onnx", folder / "int8.onnx"
        export_tower(self.model, self.size, self.file)
        self.ranges = int8.calibrate(self.file, [self.sample])
        int8.quantize(self.file, self.ranges, quantized)
        self.tower = Int8Session(quantized)
        self.vectors = encode(self.tower, self.others)

    @property
    def cosines(self) -> Any:
        return (unit(self.exact) * unit(self.vectors)).sum(axis=1)


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def encode(tower: Int8Session, pixels: Any, batch: int = 8) -> Any:
    starts = range(0, len(pixels), batch)
    return np.concatenate([tower.encode(pixels[start : start + batch]) for start in starts])


@pytest.fixture(scope="module")
def tiny(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    pictures = sorted(DEMO_PICTURES.rglob("*.jpg"))[:48]
    return Case(tiny_model, pictures, 16, tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Case:
    pictures = sorted(path for path in DEMO_PICTURES.rglob("*.*") if path.is_file())
    return Case(DEMO_MODEL, pictures, 64, tmp_path_factory.mktemp("demo"))


@pytest.fixture(params=["tiny", "demo"])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.getfixturevalue(request.param)
    return found


def test_float32_graph_gives_torchs_vectors(case: Case) -> None:
    vectors = encode(Int8Session(case.file), case.others)
    np.testing.assert_allclose(unit(vectors), unit(case.exact), atol=2e-5)


def test_exporting_leaves_the_model_as_it_was(tiny: Case) -> None:
    import torch

    assert type(tiny.model.visual.conv1) is torch.nn.Conv2d
    attention = tiny.model.visual.transformer.resblocks[0].attn
    assert type(attention) is torch.nn.MultiheadAttention
    with torch.inference_mode():
        again = tiny.model.encode_image(torch.from_numpy(tiny.others[:8])).numpy()
    np.testing.assert_array_equal(again, tiny.exact[:8])


@pytest.mark.parametrize(
    ("name", "least_cosine", "least_agreement"),
    # Measured: .9992 and .97; .9990 and .97.
    [("tiny", 0.998, 0.9), ("demo", 0.998, 0.95)],
)
def test_vectors_are_nearly_those_of_float32(
    name: str, least_cosine: float, least_agreement: float, request: pytest.FixtureRequest
) -> None:
    case: Case = request.getfixturevalue(name)
    assert case.cosines.min() > least_cosine
    assert neighbour_agreement(case.exact, case.vectors) > least_agreement
    assert case.vectors.dtype == np.float32


@pytest.mark.skipif(not TESTDATA, reason="CLIP_SEARCH_TESTDATA is not set")
def test_mobilenet_of_real_photographs_falls_short(tmp_path: Path) -> None:
    """The agreement shows that int8 does not suit this model."""
    assert TESTDATA
    pictures = sorted(Path(TESTDATA, "corpora", "photos").glob("*.jpg"))
    case = Case(Path(TESTDATA, "models", "flickr-lit"), pictures, 64, tmp_path)
    # Measured: a mean cosine of .9952, and an agreement of .919.
    assert case.cosines.mean() > 0.99
    assert 0.88 < neighbour_agreement(case.exact, case.vectors) < 0.95


def test_a_vector_does_not_depend_on_the_batch(case: Case) -> None:
    others = case.others
    for number in range(4):
        for size in (1, 2, 3, 5, 8, 13):
            for position in {0, size // 2, size - 1}:
                batch = np.roll(others, number * 5, axis=0)[:size].copy()
                batch[position] = others[number]
                vector = case.tower.encode(batch)[position]
                np.testing.assert_array_equal(vector, case.vectors[number])


def test_extreme_pictures_in_a_batch_change_nothing(case: Case) -> None:
    batch = case.others[:8].copy()
    batch[1:] *= 1000
    np.testing.assert_array_equal(case.tower.encode(batch)[0], case.vectors[0])


def test_ranges_make_the_same_tower_again(case: Case, tmp_path: Path) -> None:
    kept = {name: tuple(value) for name, value in json.loads(json.dumps(case.ranges)).items()}
    assert kept == case.ranges
    int8.quantize(case.file, kept, tmp_path / "int8.onnx")
    again = (tmp_path / "int8.onnx").read_bytes()
    assert again == case.file.with_name("int8.onnx").read_bytes()
    assert b"site-packages" not in again
    np.testing.assert_array_equal(
        encode(Int8Session(tmp_path / "int8.onnx"), case.others), case.vectors
    )


def test_a_tower_is_the_same_wherever_its_noise_was_encoded(tiny: Case) -> None:
    model = tiny.file.with_name("int8.onnx").read_bytes()
    of_noise = features_of_noise(model)
    assert of_noise.shape == (2, tiny.exact.shape[1])
    for known in (of_noise, of_noise + 1):
        vectors = encode(Int8Session(model, known), tiny.others)
        np.testing.assert_array_equal(vectors, tiny.vectors)


def test_building_again_is_silent_and_leaves_no_file(
    tiny: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    monkeypatch.chdir(tmp_path)
    model, ranges = int8.build_int8(tiny.model, tiny.size, [tiny.sample], tmp_path)
    assert ranges == tiny.ranges
    np.testing.assert_array_equal(encode(Int8Session(model), tiny.others), tiny.vectors)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert not list(recwarn)


def test_calibration_does_not_depend_on_batches(tiny: Case) -> None:
    apart = [picture[np.newaxis] for picture in tiny.sample]
    assert int8.calibrate(tiny.file, apart) == tiny.ranges
    with pytest.raises(ValueError, match="at least one picture"):
        int8.calibrate(tiny.file, [])


def test_ranges_of_another_model_are_refused(tiny: Case, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailable, match="ranges in the database do not fit"):
        int8.quantize(tiny.file, {"another": (0.0, 1.0, [])}, tmp_path / "int8.onnx")


def test_a_model_that_has_no_graph_is_refused(tiny: Case) -> None:
    import torch

    class Undecided(torch.nn.Module):
        def encode_image(self, pixels: Any) -> Any:
            return pixels.mean(dim=(2, 3)) if float(pixels.sum()) > 0 else pixels.amax(dim=(2, 3))

    with pytest.raises(EncoderUnavailable, match=r"can't be turned into ONNX: .+ --precision"):
        int8.build_int8(Undecided(), (32, 32), [tiny.sample])


def test_threads_share_a_tower(demo: Case) -> None:
    found: list[Any] = [None] * 4

    def work(number: int) -> None:
        found[number] = encode(demo.tower, demo.others, batch=number + 3)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vectors in found:
        np.testing.assert_array_equal(vectors, demo.vectors)


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named(
    module: str, tiny: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EncoderUnavailable) as caught:
        int8.build_int8(tiny.model, tiny.size, tiny.ranges)
    assert f"needs {module}, " in str(caught.value)
    assert "pip install 'datasette-clip-search[int8]'" in str(caught.value)


@given(st.integers(3, 40), st.integers(0, 1000), st.floats(0, 2))
def test_agreement_is_what_counting_finds(n: int, seed: int, noise: float) -> None:
    random = np.random.default_rng(seed)
    exact = random.normal(size=(n, 4)).astype(np.float32)
    other = (exact + random.normal(size=(n, 4)) * noise).astype(np.float32)
    k = max(1, min(10, (n - 1) // 2))

    def nearest(vectors: Any, query: int) -> set[int]:
        scores = unit(vectors.astype(np.float64)) @ unit(vectors.astype(np.float64))[query]
        ranked = sorted((i for i in range(n) if i != query), key=lambda i: -scores[i])
        return set(ranked[:k])

    shares = [len(nearest(exact, i) & nearest(other, i)) / k for i in range(n)]
    # Float32 may order two scores that are nearly equal the other way round.
    assert neighbour_agreement(exact, other) == pytest.approx(
        np.mean(shares), abs=1 / (n * k) + 1e-9
    )


def test_agreement_ignores_lengths_and_sees_nonsense() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(size=(200, 32)).astype(np.float32)
    lengths = random.uniform(0.1, 9, (200, 1)).astype(np.float32)
    assert neighbour_agreement(exact, exact * lengths) > 0.999
    assert neighbour_agreement(exact, random.normal(size=(200, 32)).astype(np.float32)) < 0.1


@pytest.mark.parametrize(("n", "m"), [(0, 0), (2, 2), (5, 4)])
def test_agreement_of_too_few_is_an_error(n: int, m: int) -> None:
    with pytest.raises(ValueError, match=f"not of {n} and {m}"):
        neighbour_agreement(np.ones((n, 2), np.float32), np.ones((m, 2), np.float32))
