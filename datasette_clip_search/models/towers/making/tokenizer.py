"""Pack a model's tokenizer, so that it works without OpenCLIP."""

import zlib
from typing import Any

from ....common.errors import EncoderUnavailable
from ..tokens import BytePairs

_CLEANINGS = {
    "_clean_lower": "lower",
    "_clean_whitespace": "whitespace",
    "_clean_canonicalize": "canonicalize",
}


def pack_tokenizer(tokenizer: Any) -> tuple[dict[str, Any], bytes]:
    """Return the facts and the data of an OpenCLIP tokenizer, for `read_tokenizer`.

    `tokenizer` is that of a TorchModel, which notes its own cleaning.

    Raises EncoderUnavailable for a tokenizer that can't be stored.
    """
    clean = _CLEANINGS.get(getattr(tokenizer.own_clean_fn, "__name__", ""))
    if clean is None:
        raise _unsupported(
            f"its cleaning of texts is not OpenCLIP's: {tokenizer.own_clean_fn!r:.80}"
        )
    facts = {
        "clean": clean,
        "special": list(tokenizer.special),
        "context_length": tokenizer.context_length,
    }
    if getattr(tokenizer, "reduction_fn", None) is not None:
        raise _unsupported("its tokenizer leaves out words of long texts, by chance or by grammar")
    if hasattr(tokenizer, "bpe_ranks"):
        return {"kind": "open_clip", **facts}, _pack_open_clip(tokenizer)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None or not getattr(inner, "is_fast", False):
        raise _unsupported("its tokenizer is neither OpenCLIP's nor a fast one of Hugging Face's")
    if getattr(tokenizer, "tokenizer_mode", ""):
        raise _unsupported(f"its tokenizer has the mode {tokenizer.tokenizer_mode!r}")
    facts["pad"] = [
        inner.pad_token_id,
        inner.pad_token,
        inner.pad_token_type_id,
        inner.padding_side,
    ]
    facts["zeroed"] = inner.sep_token_id if tokenizer.strip_sep_token else None
    return {"kind": "tokenizers", **facts}, zlib.compress(inner.backend_tokenizer.to_str().encode())


def _pack_open_clip(tokenizer: Any) -> bytes:
    # The vocabulary begins with the letters that stand for bytes, in an order of its own.
    numbers, letters = list(tokenizer.byte_encoder), "".join(tokenizer.byte_encoder.values())
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    text = "\n".join([bytes(numbers).hex(), letters, *(" ".join(merge) for merge in merges)])
    again = BytePairs(text, tokenizer.special, str, tokenizer.context_length)
    if again.ids != tokenizer.encoder or again.words != tokenizer.pat.pattern:
        raise _unsupported("its tokenizer differs from OpenCLIP's own in the releases known here")
    return zlib.compress(text.encode(), 9)


def _unsupported(reason: str) -> EncoderUnavailable:
    return EncoderUnavailable(f"{reason[0].upper()}{reason[1:]}")
