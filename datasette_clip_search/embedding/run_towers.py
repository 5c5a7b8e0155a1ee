"""Keep the towers of a run's model, so that queries need no torch."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ..database.model import Model
from ..models.towers.making.checks import NONE
from ..models.towers.making.keep import TowerKeeper
from ..models.towers.stored import IMAGE, TEXT, read_manifest
from ..pictures.sources import Source
from .interrupt import Interrupt
from .model_loading import Loader, RunCache, sample_pixels
from .options import EmbedOptions
from .report import EmbedProgress


@dataclass(frozen=True)
class RunTowers:
    """The towers of a run's model, as the options ask for them."""

    connection: sqlite3.Connection
    model: Model
    options: EmbedOptions
    cache: RunCache

    def keep(
        self,
        loader: Loader,
        sources: Sequence[Source],
        progress: EmbedProgress,
        interrupt: Interrupt,
    ) -> None:
        """Make and store the towers, and put the reports into the cache.

        Of consecutive runs, only the first does this. An image tower is checked with some
        `sources`.
        """
        keeper = TowerKeeper(
            self.connection,
            self.model,
            loader.load_exact,
            lambda *wanted: sample_pixels(sources, *wanted),
            progress.making_tower,
            lambda: interrupt.requested,
        )
        cache, options = self.cache, self.options
        cache.text_tower = cache.text_tower or keeper.keep(TEXT, options.text_tower)
        if not interrupt.requested:
            cache.image_tower = cache.image_tower or keeper.keep(IMAGE, options.image_tower)

    @property
    def lacks_text_tower(self) -> bool:
        """Whether the database still lacks a text tower that the options ask for."""
        if self.options.text_tower == NONE:
            return False
        return not read_manifest(self.connection, self.model)
