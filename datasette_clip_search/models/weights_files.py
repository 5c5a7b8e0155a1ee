"""Weights on disk: found in the caches of open_clip and of the hub, or fetched there."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from ..common.errors import CommandError, EncoderUnavailable
from .checkpoint import CONFIG_FILE, HUB_PREFIX, WEIGHTS_FILE, Checkpoint
from .open_clip_library import check_architecture, import_open_clip, network, suggest_names


def locate_weights(checkpoint: Checkpoint, fetch: bool) -> Checkpoint:
    """Return the checkpoint with its weights on disk.

    With `fetch`, open_clip downloads missing weights. Without it, only earlier downloads are used,
    and the network is left alone.

    Raises CommandError for a name or tag that does not exist, EncoderUnavailable for weights that
    are not available.
    """
    if checkpoint.weights:
        if not checkpoint.folder:
            check_architecture(checkpoint.name)
        return checkpoint
    open_clip = import_open_clip()
    from open_clip import pretrained as downloads

    if checkpoint.name.startswith(HUB_PREFIX):
        hub = checkpoint.name.removeprefix(HUB_PREFIX)

        def download_with_config() -> tuple[Path, str | None]:
            config = Path(downloads.download_pretrained_from_hf(hub, filename=CONFIG_FILE))
            model_config = json.loads(config.read_text("utf-8"))["model_cfg"]
            weights = Path(downloads.download_pretrained_from_hf(hub))
            return weights, json.dumps(model_config, sort_keys=True)

        return _obtain(checkpoint, download_with_config, fetch)
    source = tag_settings(checkpoint)
    if source is None:
        check_architecture(checkpoint.name)
        tags = open_clip.list_pretrained_tags_by_model(checkpoint.name)
        raise CommandError(
            f"OpenCLIP has no weights tagged {checkpoint.pretrained} for {checkpoint.name}. "
            f"{suggest_names(checkpoint.pretrained, tags)}Its tags: {', '.join(tags) or 'none'}"
        )

    def download() -> tuple[Path, str | None]:
        return Path(downloads.download_pretrained(source)), None

    if not source.get("hf_hub"):
        # Not from the hub: open_clip keeps the file here, under its own name.
        kept = Path("~/.cache/clip", Path(source["url"]).name).expanduser()
        if kept.is_file():
            return replace(checkpoint, weights=kept)
        if not fetch:
            raise _not_here(checkpoint)
    return _obtain(checkpoint, download, fetch)


def _obtain(
    checkpoint: Checkpoint, download: Callable[[], tuple[Path, str | None]], fetch: bool
) -> Checkpoint:
    """Take the weights from the hub's cache, or fetch them."""
    # Hub clients raise many kinds of errors, and only the last line says what happened.
    try:
        with network(allowed=False):
            weights, config = download()
    except Exception as missing:
        if not fetch:
            raise _not_here(checkpoint) from missing
        try:
            _check_reachable()
            weights, config = download()
        except Exception as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise EncoderUnavailable(
                f"Can't fetch the weights of {checkpoint.label}: {reason[0]}\n"
                "Without a network, give a local checkpoint: --pretrained FOLDER "
                f"(with {CONFIG_FILE} and {WEIGHTS_FILE}), "
                "or --model NAME --pretrained WEIGHTS_FILE"
            ) from error
    return replace(checkpoint, weights=weights, config=config)


def _not_here(checkpoint: Checkpoint) -> EncoderUnavailable:
    return EncoderUnavailable(
        f"The weights of {checkpoint.label} are not on this machine, and queries fetch nothing. "
        "Run sqlite-utils embed-images once here"
    )


def _check_reachable() -> None:
    """Fail at once without a network: the hub client would try for most of a minute."""
    from huggingface_hub import constants

    host = urlsplit(constants.ENDPOINT).hostname
    if not getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise OSError(f"the host {host} can't be reached ({error.strerror})") from error


def tag_settings(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return OpenCLIP's settings for a tag: the place of its weights and the preprocessing."""
    settings: dict[str, Any] | None = import_open_clip().get_pretrained_cfg(
        checkpoint.name, checkpoint.pretrained
    )
    return settings or None
