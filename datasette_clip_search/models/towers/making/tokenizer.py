"""What is kept of a model's tokenizer, so that it works without OpenCLIP."""

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
    """Returns the facts and the data of an OpenCLIP tokenizer, for `read_tokenizer`.

    `tokenizer` is as `TorchModel.tokenizer` has it, with its own cleaning noted.

    Raises EncoderUnavailable for one that can't be kept.
    """
    clean = _CLEANINGS.get(getattr(tokenizer.own_clean_fn, "__name__", ""))
    if clean is None:
        raise _lacking(f"its cleaning of texts, {tokenizer.own_clean_fn!r:.80}, is not OpenCLIP's")
    facts = {
        "clean": clean,
        "special": list(tokenizer.special),
        "context_length": tokenizer.context_length,
    }
    if getattr(tokenizer, "reduction_fn", None) is not None:
        raise _lacking("its tokenizer leaves out words of long texts by chance or by grammar")
    if hasattr(tokenizer, "bpe_ranks"):
        return {"kind": "open_clip", **facts}, _keep_open_clip(tokenizer)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is None or not getattr(inner, "is_fast", False):
        raise _lacking("its tokenizer is neither OpenCLIP's nor a fast one of Hugging Face's")
    if getattr(tokenizer, "tokenizer_mode", ""):
        raise _lacking(f"its tokenizer has the mode {tokenizer.tokenizer_mode!r}")
    facts["pad"] = [
        inner.pad_token_id,
        inner.pad_token,
        inner.pad_token_type_id,
        inner.padding_side,
    ]
    facts["zeroed"] = inner.sep_token_id if tokenizer.strip_sep_token else None
    return {"kind": "tokenizers", **facts}, zlib.compress(inner.backend_tokenizer.to_str().encode())


def _keep_open_clip(tokenizer: Any) -> bytes:
    # The vocabulary begins with the letters that stand for bytes, in an order of its own.
    numbers, letters = list(tokenizer.byte_encoder), "".join(tokenizer.byte_encoder.values())
    merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
    text = "\n".join([bytes(numbers).hex(), letters, *(" ".join(merge) for merge in merges)])
    again = BytePairs(text, tokenizer.special, str, tokenizer.context_length)
    if again.ids != tokenizer.encoder or again.words != tokenizer.pat.pattern:
        raise _lacking("its tokenizer is not as OpenCLIP's own one is in the releases known here")
    return zlib.compress(text.encode(), 9)


def _lacking(what: str) -> EncoderUnavailable:
    return EncoderUnavailable(f"{what[0].upper()}{what[1:]}")
