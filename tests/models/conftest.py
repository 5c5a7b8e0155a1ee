"""Fixtures of the tests of models."""

import shutil

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def no_towers_loaded(monkeypatch):
    """Let every test load its towers, as a new process would."""
    from datasette_clip_search.common.cache import LRUCache
    from datasette_clip_search.models.queries import picture_encoder, text_encoder
    from datasette_clip_search.models.queries.tower_cache import TowerCache
    from datasette_clip_search.search import query

    monkeypatch.setattr(query, "_texts", LRUCache(8))
    texts = TowerCache("text", text_encoder.TextTower)
    monkeypatch.setattr(text_encoder, "_towers", texts)
    pictures = TowerCache("image", picture_encoder.ImageTower)
    monkeypatch.setattr(picture_encoder, "_towers", pictures)


@pytest.fixture
def demo(demo_database, tmp_path):
    return shutil.copy(demo_database, tmp_path / "demo.db")


@pytest.fixture
def spoil(monkeypatch):
    """Add noise to the weights of these bits, as a part of the largest weight."""
    from datasette_clip_search.models.towers.making import graph_builder

    def spoil(amounts):
        integers, halves = graph_builder._integers, graph_builder._halves
        noise = np.random.default_rng(0)

        def spoilt_integers(values):
            made, scales = integers(values)
            error = noise.normal(size=made.shape) * 127 * amounts.get(8, 0)
            return np.clip(made + error, -127, 127).astype(np.int8), scales

        def spoilt_halves(values):
            made = halves(values)
            error = noise.normal(size=made.shape) * np.abs(made).max() * amounts.get(16, 0)
            return (made + error).astype(np.float16)

        monkeypatch.setattr(graph_builder, "_integers", spoilt_integers)
        monkeypatch.setattr(graph_builder, "_halves", spoilt_halves)

    return spoil
