"""An OpenCLIP model in torch: pictures and texts to unit vectors."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, is_dataclass
from typing import Any

from ..common.arrays import Pixels, Vectors
from ..common.errors import EncoderUnavailable
from ..pictures.preprocess import Preprocess
from .checkpoint import Checkpoint, compute_fingerprint
from .encoding import Heed, reference_pixels, unit
from .open_clip_library import import_open_clip
from .text_cleaning import make_safe
from .weights_files import tag_settings

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

# OpenCLIP's tokenizer caches every word that it has seen.
_MOST_WORDS = 10_000


class TorchModel:
    """Both towers of one checkpoint, in float32 on the CPU until `use` changes that."""

    def __init__(self, checkpoint: Checkpoint, fingerprint: str | None = None):
        """Load a model whose weights are located. Its `fingerprint` may be known already.

        Raises EncoderUnavailable for weights that do not load.
        """
        self.checkpoint = checkpoint
        with ThreadPoolExecutor(1) as beside:
            # Importing occupies one core, and takes longer.
            hashed = beside.submit(lambda: fingerprint or compute_fingerprint(checkpoint))
            import_open_clip()
            self._model, self._tokenizer = _load(checkpoint)
            self.fingerprint = hashed.result()
        self.preprocess = Preprocess.from_open_clip(_plain(self._model.visual.preprocess_cfg))
        self.device = "cpu"
        self.precision = "fp32"
        # The setting of torch.set_float32_matmul_precision while pictures are embedded.
        self.matmul = "highest"
        self.dimension = self.encode_pixels(reference_pixels(self.preprocess)).shape[1]

    @property
    def label(self) -> str:
        """The model's name, for messages."""
        return self.checkpoint.label

    @property
    def model(self) -> Any:
        """The open_clip model, a torch.nn.Module."""
        return self._model

    @property
    def tokenizer(self) -> Any:
        """The open_clip tokenizer, which reads special tokens in a text as plain text."""
        return self._tokenizer

    @property
    def key(self) -> str:
        """Identifies the model: another encoder's vectors have another key."""
        return self.fingerprint

    @property
    def logit_scale(self) -> float:
        """The factor that the model learned for cosines, before a softmax or a sigmoid."""
        return float(self._model.logit_scale.detach().exp())

    def use(self, device: str, precision: str) -> None:
        """Move the model to a torch device and "fp32", "bf16" or "fp16"."""
        import torch

        if self.precision != "fp32" and precision != self.precision:
            # Rounded weights can't be widened back.
            self.reset()
        self._model.to(device, getattr(torch, _DTYPES[precision]))
        self.device, self.precision, self.matmul = device, precision, "highest"

    def reset(self) -> None:
        """Load the model again, in float32 on the CPU."""
        self._model, self._tokenizer = _load(self.checkpoint)
        self.device, self.precision, self.matmul = "cpu", "fp32", "highest"

    def encode_pixels(self, pixels: Pixels, heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of pixels (n, height, width, 3), uint8.

        Threads may share a model. It never calls `heed`.
        """
        import torch

        batch = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float()
        mean, std = (
            torch.tensor(values, device=self.device).view(1, 3, 1, 1) * 255
            for values in (self.preprocess.mean, self.preprocess.std)
        )
        batch = ((batch - mean) / std).to(getattr(torch, _DTYPES[self.precision]))
        with torch.inference_mode():
            features = self._model.encode_image(batch)
        return unit(features.float().cpu().numpy())

    def encode_texts(self, texts: Sequence[str], heed: Heed | None = None) -> Vectors:
        """Return the unit vectors (n, dimension), float32, of n texts. It never calls `heed`."""
        import torch

        tokens = self._tokenizer(list(texts)).to(self.device)
        words = getattr(self._tokenizer, "cache", {})
        if len(words) > _MOST_WORDS:
            # Not the first ones, which are the tokenizer's own.
            for word in list(words)[_MOST_WORDS // 2 :]:
                words.pop(word, None)
        with torch.inference_mode():
            features = self._model.encode_text(tokens)
        return unit(features.float().cpu().numpy())


def _load(checkpoint: Checkpoint) -> tuple[Any, Any]:
    import open_clip

    options: dict[str, Any]
    if checkpoint.folder:
        name = f"local-dir:{checkpoint.folder}"
        options = {}
    elif checkpoint.config:
        name, options = checkpoint.name, {}
    else:
        name = checkpoint.name
        tag = tag_settings(checkpoint) or {}
        options = {
            "pretrained": str(checkpoint.weights),
            "force_quick_gelu": bool(tag.get("quick_gelu")),
            "force_preprocess_cfg": tag,
        }
    try:
        with _without_first_values():
            model = open_clip.create_model(name, require_pretrained=True, **options)
        tokenizer = _safe(open_clip.get_tokenizer(name))
    except Exception as error:
        # Weights of another shape, a broken file and a missing tokenizer have an exception each.
        reason = " ".join(str(error).split("\n")[:1])
        raise EncoderUnavailable(
            f"The weights of {checkpoint.label} do not load from {checkpoint.weights}: "
            f"{type(error).__name__}: {reason}"
        ) from error
    # create_model returns a model in training mode, where BatchNorm mixes the pictures of a batch.
    model.eval()
    return model, tokenizer


def _without_first_values() -> AbstractContextManager[Any]:
    """Return a context in which new layers are left uninitialised.

    The checkpoint's weights replace the random ones at once, and drawing those takes longer than
    the rest of loading. A checkpoint that lacks any weights does not load.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if function in drawing:
                return args[0] if args else kwargs["tensor"]
            return function(*args, **kwargs)

    init, tensor = torch.nn.init, torch.Tensor
    drawing = {init.kaiming_uniform_, init.uniform_, init.normal_, tensor.uniform_, tensor.normal_}
    return Mode()


def _safe(tokenizer: Any) -> Any:
    """Make a tokenizer read special tokens in a text as plain text, and cut endless words.

    Its own cleaning and the special tokens are set as attributes, for code that stores the
    tokenizer.
    """
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None:
        special = [tokenizer.decoder[token] for token in tokenizer.all_special_ids]
    else:
        # Hugging Face's: unnamed ones, such as languages, are among the added tokens.
        added = {token.content for token in inner.added_tokens_decoder.values() if token.special}
        special = sorted(added.union(inner.all_special_tokens))
    tokenizer.special, tokenizer.own_clean_fn = special, tokenizer.clean_fn
    tokenizer.clean_fn = make_safe(tokenizer.clean_fn, special)
    return tokenizer


def _plain(settings: Any) -> dict[str, Any]:
    return asdict(settings) if is_dataclass(settings) else dict(settings)  # type: ignore[arg-type]
