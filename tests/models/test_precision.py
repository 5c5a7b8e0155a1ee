"""The device and number format of a run: the fastest that makes the right vectors."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from support.commands import run
from support.databases import rows
from support.paths import DEMO_MODEL, DEMO_PICTURES
from support.pictures import make_picture

pytest.importorskip("open_clip")

from datasette_clip_search.common.config import CONFIG
from datasette_clip_search.common.errors import CommandError
from datasette_clip_search.models import device, precision
from datasette_clip_search.models.checkpoint import resolve
from datasette_clip_search.models.encoding import reference_pixels
from datasette_clip_search.models.torch_model import TorchModel
from datasette_clip_search.models.towers.making import make_int8
from datasette_clip_search.pictures.preprocess import Preprocess

DEMO = ["--model", "demo", "--pretrained", DEMO_MODEL]


def vectors(database: Path) -> dict[str, np.ndarray]:
    sql = "select path, embedding from images join clip_embeddings on image_id = id"
    return {Path(path).name: np.frombuffer(blob, "<f4") for path, blob in rows(database, sql)}


def demo_pixels(preprocess: Preprocess, count: int = 8) -> np.ndarray:
    from datasette_clip_search.pictures.decode import decode_picture

    files = sorted(DEMO_PICTURES.rglob("*.jpg"))[:count]
    images = [decode_picture(file.read_bytes()).image for file in files]
    return np.stack([preprocess.pixels(image) for image in images])


@pytest.fixture
def encoder() -> TorchModel:
    return TorchModel(resolve("demo", str(DEMO_MODEL)))


def test_auto_is_faithful(tmp_path, configured):
    """Whatever is fastest on the test's machine, every picture keeps its vector."""
    configured(precision_from=20)
    pictures = DEMO_PICTURES / "phone"
    run("embed-images", tmp_path / "exact.db", pictures, *DEMO, "--precision", "fp32")
    result = run("embed-images", tmp_path / "auto.db", pictures, *DEMO)
    assert result.exit_code == 0, result.output
    exact, auto = vectors(tmp_path / "exact.db"), vectors(tmp_path / "auto.db")
    assert exact.keys() == auto.keys()
    assert min(float(exact[name] @ auto[name]) for name in exact) >= precision.FAITHFUL
    [(stored,)] = rows(tmp_path / "auto.db", "select distinct precision from clip_embeddings")
    device = next(line for line in result.stdout.splitlines() if line.startswith("Device:"))
    assert stored in device


def test_unfaithful_format_is_refused_with_its_figure(encoder, monkeypatch):
    monkeypatch.setattr(precision, "FAITHFUL", 1.1)
    with pytest.raises(
        CommandError, match=r"in bf16 on cpu .* cosine [01]\.\d+, expected at least"
    ):
        precision.use_precision(encoder, "bf16", demo_pixels(encoder.preprocess))


def test_auto_reports_unused_formats(encoder, monkeypatch):
    monkeypatch.setattr(precision, "FAITHFUL", 1.1)
    monkeypatch.setattr(precision, "_candidates", lambda *_: ["bf16"])
    sample = demo_pixels(encoder.preprocess)
    before = encoder.encode_pixels(sample)
    choice = precision.use_precision(encoder, "auto", sample)
    assert encoder.precision == "fp32"
    assert choice.notes[0].startswith("Not using bf16: it changes this model's vectors (cosine ")
    # The weights that were rounded to bf16 have been loaded again.
    assert np.allclose(encoder.encode_pixels(sample), before, atol=1e-6)


def test_slow_format_is_not_used(encoder, monkeypatch):
    monkeypatch.setattr(precision, "WORTHWHILE", 1e9)
    monkeypatch.setattr(precision, "_candidates", lambda *_: ["bf16"])
    choice = precision.use_precision(encoder, "auto", demo_pixels(encoder.preprocess))
    assert (encoder.precision, encoder.matmul, choice.speedup) == ("fp32", "highest", None)


def test_other_products_are_recognised_by_rounding(encoder):
    sample = demo_pixels(encoder.preprocess)
    made = []
    for matmul in ("highest", "medium"):
        with device.torch_settings(matmul):
            made.append(encoder.encode_pixels(sample))
    assert precision._has_other_products("cpu") != np.array_equal(*made)


def test_nothing_is_measured_where_there_is_nothing_to_choose(encoder, monkeypatch):
    monkeypatch.setattr(precision, "_candidates", lambda *_: [])
    monkeypatch.setattr(precision, "_has_other_products", lambda _: False)
    monkeypatch.setattr(TorchModel, "encode_pixels", None)
    choice = precision.use_precision(encoder, "auto", demo_pixels(encoder.preprocess))
    assert (encoder.precision, encoder.matmul, choice.speedup) == ("fp32", "highest", None)


def test_emulated_bf16_is_not_tried():
    flags = Path("/proc/cpuinfo")
    if not flags.exists() or {"avx512_bf16", "amx_bf16", "bf16"} & set(flags.read_text().split()):
        pytest.skip("the processor may have instructions for bf16")
    assert not precision._has_native_bf16()


def test_products_of_float32_are_set_for_a_run_only(tmp_path, pictures, tiny_model, monkeypatch):
    import torch

    seen = []
    encode = TorchModel.encode_pixels

    def spy(self: TorchModel, pixels: np.ndarray) -> np.ndarray:
        self.matmul = "medium"
        seen.append(torch.get_float32_matmul_precision())
        return encode(self, pixels)

    monkeypatch.setattr(TorchModel, "encode_pixels", spy)
    threads = torch.get_num_threads()
    run("embed-images", tmp_path / "p.db", pictures, "--pretrained", tiny_model)
    assert "medium" in seen
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_num_threads() == threads


def test_device_that_can_not_run_the_model(tmp_path, pictures, tiny_model):
    """The device `meta` is a real one, whose tensors hold no numbers."""
    result = run(
        "embed-images", tmp_path / "p.db", pictures, "--pretrained", tiny_model, "--device", "meta"
    )
    assert result.exit_code == 0, result.output
    assert "Note:         The device meta can't run the model: " in result.stdout
    assert "Using the CPU" in result.stdout
    assert "Device:       cpu, fp32" in result.stdout


def test_device_that_disagrees_with_the_cpu(encoder, monkeypatch):
    pixels = demo_pixels(encoder.preprocess)
    before = encoder.encode_pixels(pixels)
    assert device.use_device(encoder, "cpu:0") == ""
    use = TorchModel.use

    def disturb(self: TorchModel, device: str, format: str) -> None:
        use(self, device, format)
        encode = self._model.encode_image
        self._model.encode_image = lambda batch: encode(batch.flip(-1) * 3)

    monkeypatch.setattr(TorchModel, "use", disturb)
    note = device.use_device(encoder, "cpu:0")
    assert note.startswith("The device cpu:0 makes other vectors than the CPU (cosine ")
    assert encoder.device == "cpu"
    assert np.array_equal(encoder.encode_pixels(pixels), before)


def test_devices_are_timed_with_full_batches(encoder, monkeypatch):
    """A GPU takes as long for eight pictures as for one, so eight would not predict a run."""
    pixels = demo_pixels(encoder.preprocess)
    expected = encoder.encode_pixels(pixels)
    assert device.use_device(encoder, "cpu:0") == ""
    encode, sizes = TorchModel.encode_pixels, []

    def spy(self: TorchModel, pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(TorchModel, "encode_pixels", spy)
    vectors, seconds = precision.time_encoding(encoder, pixels)
    assert np.abs(vectors - expected).max() < 1e-5
    assert 0 < seconds < float("inf")
    assert set(sizes) == {CONFIG.gpu_batch_size}


def test_batch_that_does_not_fit_a_gpu(tmp_path, pictures, tiny_model, monkeypatch):
    """The message is PyTorch 2.11's for a GPU."""
    import torch

    encode = TorchModel.encode_pixels

    def fill(self: TorchModel, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) == 1:
            return encode(self, pixels)
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 56.08 GiB. GPU 0 has a total capacity of 139.80 "
            "GiB of which 26.22 GiB is free. Including non-PyTorch memory, this process has 113.58 "
            "GiB memory in use."
        )

    monkeypatch.setattr(TorchModel, "encode_pixels", fill)
    result = run("embed-images", tmp_path / "p.db", pictures, "--pretrained", tiny_model)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert result.stderr.split("Error: ")[1] == (
        "tiny can't run on cpu: CUDA out of memory. Tried to allocate 56.08 GiB. What was embedded "
        "before is kept. Try a smaller --batch-size, or --device cpu\n"
    )


@pytest.mark.parametrize("format", ["fp32", "int8"])
def test_vectors_do_not_depend_on_the_batch(tmp_path, format, configured):
    """A picture alone, among others, in another order and in batches of another size."""
    # Each run finds the fastest way of multiplying; here all runs take the same.
    configured(precision_from=10_000)
    if format == "int8":
        pytest.importorskip("onnxruntime")
    together, alone = tmp_path / "together", tmp_path / "alone"
    shutil.copytree(DEMO_PICTURES / "phone", together)
    database = tmp_path / "together.db"
    result = run("embed-images", database, together, *DEMO, "--precision", format)
    assert result.exit_code == 0, result.output
    expected = vectors(database)
    name = sorted(expected)[10]
    alone.mkdir()
    shutil.copy(together / name, alone / "copy.jpg")
    with open(alone / "copy.jpg", "ab") as file:
        # Other bytes, so that it is embedded again, by the model the first run calibrated.
        file.write(b"\0")
    result = run("embed-images", database, alone, *DEMO, "--precision", format)
    assert "Embedded:     1\n" in result.stdout, result.output
    assert np.array_equal(vectors(database)["copy.jpg"], expected[name])
    if format == "fp32":
        for seed, prefix in enumerate("azAZ"):
            make_picture(together / f"{prefix}.png", seed)
        shuffled = tmp_path / "shuffled.db"
        run("embed-images", shuffled, together, *DEMO, "--precision", format)
        others = vectors(shuffled)
        assert all(np.array_equal(others[name], expected[name]) for name in expected)


def test_int8_is_refused_with_its_figure(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(make_int8, "AGREEMENT", 1.01)
    result = run(
        "embed-images", tmp_path / "p.db", DEMO_PICTURES / "phone", *DEMO, "--precision", "int8"
    )
    assert result.exit_code == 1
    assert "demo in int8 finds 9" in result.stderr
    assert "% of the pictures that it finds in float32, in a sample of 40 of yours" in result.stderr
    assert not (tmp_path / "p.db").exists()


def test_int8_needs_pictures_to_be_checked_with(tmp_path, pictures, tiny_model):
    options = ["--pretrained", tiny_model, "--precision", "int8"]
    result = run("embed-images", tmp_path / "p.db", pictures, *options)
    assert result.exit_code == 1
    assert "at least 30 of them, and there are 6 to embed" in result.stderr


def test_preprocessing_is_stored_with_the_model(tiny_database):
    import json

    [(stored,)] = rows(tiny_database, "select preprocess from clip_models")
    preprocess = Preprocess.from_identity(json.loads(stored))
    assert (preprocess.height, preprocess.resize_mode) == (32, "shortest")
    assert preprocess.identity == json.loads(stored)
    assert json.loads(stored)["version"] == 1
    old = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"}
    assert Preprocess.from_identity(old).width == 32


def test_reference_picture_is_no_plain_colour():
    pixels = reference_pixels(Preprocess(96, 64, (0.5,) * 3, (0.5,) * 3))
    assert pixels.shape == (1, 96, 64, 3)
    assert pixels.std() > 40
