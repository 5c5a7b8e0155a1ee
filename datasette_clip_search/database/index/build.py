"""Build an index from the database in batches, and measure how hard it has to search."""

import math
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ...common.arrays import Ids, Vectors
from ...common.config import CONFIG
from ...common.cores import cores, on_all_cores
from ..changes import moment_of
from ..model import Model
from ..vectors import batches, embedded_ids, lost_ids, vectors_by_id
from . import exact
from .filling import Filling
from .header import Header, IndexChoice
from .index import LEAST, Effort, Index
from .kinds import KINDS, Kind, choose, lists_for
from .recall import Sample

# Rounds of k-means; more would move its centres little.
_ROUNDS = 10
# FAISS advises 39 or more for k-means.
_TRAINING_VECTORS_PER_LIST = 64
# How far the measured recall must exceed the wanted one: queries outside the sample find half a
# percent less.
_RECALL_MARGIN = 0.005
# The cost of looking at a rounded vector, and of fetching an exact one.
_SECONDS_PER_CODE = 60e-9
_SECONDS_PER_VECTOR = 15e-6

OnProgress = Callable[[str, int, int], None]
"""Reports progress: the step, how much of it is done, and the total."""


def build_index(
    connection: sqlite3.Connection,
    model: Model,
    choice: IndexChoice,
    on_progress: OnProgress,
    folder: Path,
) -> tuple[Index, Header]:
    """Build the index of a model's vectors that the owner has chosen.

    A temporary file in `folder` may grow as large as the index. Raises OSError if it can't be
    written, and DatabaseError for vectors that can't be used.
    """
    # Read before the vectors: pictures that change from here on are compared beside the index.
    moment = moment_of(connection, model)
    lost = lost_ids(connection, model)
    ids = np.setdiff1d(embedded_ids(connection, model), lost)
    count, d = len(ids), model.dimension
    kind = choose(count, d, choice.memory) if choice.kind == "auto" else KINDS[choice.kind]
    if count < CONFIG.index_at_least:
        kind = KINDS["flat"]
    header = Header(model.fingerprint, d, count, moment, kind.name, choice=choice)
    import faiss

    faiss.omp_set_num_threads(cores())
    if kind.is_exact:
        index = _flat(connection, model, count, on_progress, lost)
        return index, replace(header, count=len(index))
    index, sample = _inverted(connection, model, kind, ids, on_progress, folder, lost)
    effort, recall = _least_effort(index, sample, on_progress)
    index.effort = effort
    return index, replace(header, count=len(index), effort=effort, recall=recall)


def _flat(
    connection: sqlite3.Connection, model: Model, count: int, on_progress: OnProgress, lost: Ids
) -> Index:
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT
    index = cast(Any, faiss).index_factory(model.dimension, KINDS["flat"].factory, metric)
    read, longest = [], 0.0
    for ids, vectors in batches(connection, model, without=lost):
        if not len(ids):
            continue
        index.add(vectors)
        read.append(ids)
        longest = max(longest, float(np.linalg.norm(vectors, axis=1).max()))
        on_progress("Indexing", index.ntotal, count)
    if longest > exact.LENGTH:
        # Other programs wrote these vectors; the error of rounding them has no known bound.
        index = cast(Any, faiss).clone_index(index.refine_index)
    return Index(index, np.concatenate([np.empty(0, np.int64), *read]), KINDS["flat"])


def _inverted(
    connection: sqlite3.Connection,
    model: Model,
    kind: Kind,
    ids: Ids,
    on_progress: OnProgress,
    folder: Path,
    lost: Ids,
) -> tuple[Index, Sample]:
    """Build an index of lists, and compare every vector with a sample of queries."""
    import faiss

    lists = lists_for(len(ids))
    rng = np.random.default_rng(0)
    on_progress("Training", 0, _ROUNDS)
    some, training = vectors_by_id(
        connection, model, rng.permutation(ids)[: _TRAINING_VECTORS_PER_LIST * lists]
    )
    sample = Sample(some, training)
    index = cast(Any, faiss).index_factory(
        model.dimension, kind.described(len(ids)), faiss.METRIC_INNER_PRODUCT
    )
    _train(index, training, on_progress)
    del training
    read, done = [], 0
    # The file has no name, and disappears however the run ends.
    with tempfile.TemporaryFile(dir=folder) as file:
        filling = Filling(index, cast(BinaryIO, file))
        for more, vectors in batches(connection, model, without=lost):
            filling.add(vectors)
            sample.show(more, vectors)
            read.append(more)
            done += len(more)
            on_progress("Indexing", done, len(ids))
        # Joined while there is still memory for two copies.
        every = np.concatenate(read)
        del read
        filling.finish(lambda filled: on_progress("Filling", filled, done))
    return Index(index, every, kind), sample


def _train(index: Any, vectors: Vectors, on_progress: OnProgress) -> None:
    """Find the lists' centres for vectors (n, d), and how to round the vectors in them."""
    import faiss

    centres = cast(Any, faiss).Clustering(index.d, index.nlist)
    centres.spherical, centres.niter = True, 1
    # Each round continues from the centres of the previous round.
    for done in range(1, _ROUNDS + 1):
        centres.train(vectors, index.quantizer)
        on_progress("Training", done, _ROUNDS)
    index.train(vectors)


def _least_effort(index: Index, sample: Sample, on_progress: OnProgress) -> tuple[Effort, float]:
    """Return the effort that finds enough answers of the sample in the least time, and its recall.

    If none finds enough, return the one that finds most.
    """
    deepest = CONFIG.depths[-1]
    aim = min(1.0, CONFIG.recall_wanted + _RECALL_MARGIN)
    cheapest, best, most = math.inf, (LEAST, 0.0), (LEAST, -1.0)
    lists = 1
    while True:
        if _cost(index, Effort(lists, CONFIG.depths[0])) > cheapest:
            break
        on_progress("Measuring", lists, index.lists)
        index.effort = Effort(lists, deepest)
        found = list(
            on_all_cores(lambda query: index.candidates(query, 10, None)[0], sample.queries)
        )
        for depth in CONFIG.depths:
            effort = Effort(lists, depth)
            recall = sample.recall([ids[: 10 * depth] for ids in found])
            if recall > most[1]:
                most = effort, recall
            if recall >= aim and _cost(index, effort) < cheapest:
                cheapest, best = _cost(index, effort), (effort, recall)
        if lists == index.lists:
            break
        lists = min(lists + max(1, lists // 2), index.lists)
    return best if cheapest < math.inf else most


def _cost(index: Index, effort: Effort) -> float:
    """Estimate the seconds that a search for ten pictures takes."""
    looked_at = len(index) * effort.lists / index.lists
    looking: float = looked_at * _SECONDS_PER_CODE
    return looking + 10 * effort.depth * _SECONDS_PER_VECTOR
