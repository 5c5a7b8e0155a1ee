"""Sessions of ONNX Runtime. Only this module creates them.

- A file from a database is read and its cost estimated before it is loaded.
- Every new input shape is checked against the limits before its first run.
- Data outside the file is refused twice: `graph_model` refuses files that name any, and ONNX
  Runtime is pointed at a folder that can't exist.
- A long run can be ended between two operators.
"""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.arrays import Vectors
from ...common.stopping import Stopping
from ..encoding import Heed
from .check import Cost, CostModel
from .graph_model import FLOAT, TYPES, Declared, read_model
from .wire import OnnxRefused

_NOWHERE = os.path.join(os.devnull, "nowhere")
_LOOK_SECONDS = 0.02
# The most work between two checks of the time limit: a tenth of a second.
_UNINTERRUPTED_WORK = 4e9
_SILENT = 4
_TOO_MUCH = "more work or memory than a tower may take"
# The most texts or pictures in one run, which bounds memory.
_MOST_TOGETHER = 32


def never_stop() -> None:
    """Never end a run early. It has a thread of its own, so that Ctrl-C can still end it."""


class Session:
    """A loaded ONNX file from a database, for any number of threads at once."""

    def __init__(
        self,
        data: bytes,
        given: Declared | None,
        output: tuple[str, int | None],
        careful: bool = False,
        stopping: Stopping | None = None,
    ):
        """Load an ONNX file whose input is `given` and whose output has this name and width.

        The first dimension of the input is open: the number of items. Where the file leaves others
        open, `given` holds the largest sizes that are ever fed. Without `given`, the file's own
        input counts. A `careful` session never saturates. `stopping` ends the loading.

        Raises OnnxRefused or another ValueError for a file that is not one of our towers, and any
        exception of ONNX Runtime.
        """
        model = read_model(data)
        self.given = given = given or model.inputs[0]
        _check_borders(model.inputs, given, model.outputs, output[0])
        self._width = output[1]
        self._graph = CostModel(model)
        # It keeps the bytes of the file in memory.
        del model
        self._costs: dict[tuple[int, ...], Cost] = {}
        self._together = self._most_together()
        self._session = _loaded(data, careful, stopping=stopping)

    def _most_together(self) -> int:
        """Return how many items fit in one run, a power of two.

        Raises OnnxRefused where not even one fits.
        """
        count = _MOST_TOGETHER
        while not self._fits(count) and count > 1:
            count //= 2
        if not self._fits(1):
            raise OnnxRefused(_TOO_MUCH)
        return count

    def _fits(self, count: int) -> bool:
        _, *others = self.given.dimensions or ()
        cost = self._cost((count, *(size or 0 for size in others)))
        return self._graph.fits(cost, count)

    def _cost(self, shape: tuple[int, ...]) -> Cost:
        cost = self._costs.get(shape)
        if cost is None:
            cost = self._graph.cost({self.given.name: (shape, self.given.type)})
            [made] = cost.outputs
            if len(made) != 2 or made[0] != shape[0] or self._width not in (None, made[1]):
                raise OnnxRefused("vectors of an unexpected shape")
            self._costs[shape] = cost
        return cost

    def run(self, items: NDArray[Any], heed: Heed | None = None) -> Vectors:
        """Return the features (n, width), float32, of n texts or pictures.

        A long run calls `heed` repeatedly, which may raise to end it.

        Raises OnnxRefused for an input shape whose cost is beyond the limits, and where the graph
        fails.
        """
        size = self._together
        parts = [self._run(items[at : at + size], heed) for at in range(0, len(items), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, items: NDArray[Any], heed: Heed | None) -> Vectors:
        cost = self._cost(items.shape)
        if not self._graph.fits(cost, len(items)):
            raise OnnxRefused(_TOO_MUCH)
        feed = {self.given.name: items}
        if heed is None or cost.work <= _UNINTERRUPTED_WORK:
            return _ran(self._session, feed, None)
        return _heeding(self._session, feed, heed)


def _check_borders(
    inputs: list[Declared], given: Declared, outputs: list[Declared], output: str
) -> None:
    if len(inputs) != 1 or len(outputs) != 1:
        raise OnnxRefused("several inputs or outputs")
    [declared], [features] = inputs, outputs
    if (declared.name, declared.type) != (given.name, given.type):
        raise OnnxRefused("an unexpected input")
    wanted, found = given.dimensions or (), declared.dimensions or ()
    if len(found) < 2 or None in wanted[1:]:
        raise OnnxRefused("an input of unknown shape")
    if len(wanted) != len(found) or any(
        size is not None and size != wanted[at] for at, size in enumerate(found)
    ):
        raise OnnxRefused("an input of an unexpected shape")
    if (features.name, features.type) != (output, FLOAT):
        raise OnnxRefused("an unexpected output")
    if features.dimensions is not None and len(features.dimensions) != 2:
        raise OnnxRefused("an output of an unexpected shape")
    assert given.type in TYPES


def open_file(file: Path, careful: bool = False, optimised: bool = True) -> Any:
    """Create a session for a file that was just exported here, with its weights beside it."""
    return _loaded(file, careful, optimised)


def _loaded(
    model: bytes | Path,
    careful: bool = False,
    optimised: bool = True,
    stopping: Stopping | None = None,
) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Queries come from many threads at once, and each should use one core.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # An arena would keep the memory of the longest text for ever, and saves no time here.
    options.enable_cpu_mem_arena = False
    # Errors are raised. On stderr they would show names from the file.
    options.log_severity_level = _SILENT
    if careful:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimised:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    if isinstance(model, bytes):
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", _NOWHERE
        )
    # Otherwise it looks for another format at the beginning of the file.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Releases before 1.23 may lack it; the files that they load are checked as well.
    cancel = getattr(options, "set_load_cancellation_flag", None)
    if stopping is not None and cancel is not None:
        stopping.call(lambda: cancel(True))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    # The session keeps the file, in case it falls back to another provider.
    session._model_bytes = None
    return session


def _heeding(session: Any, feed: dict[str, NDArray[Any]], heed: Heed) -> Vectors:
    """Run a session in a thread of its own, where `heed` can end it between two operators."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = _SILENT
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(_ran(session, feed, options))
        except OnnxRefused as error:
            outcome.append(error)

    thread = threading.Thread(target=work, name="clip-search-tower", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            heed()
    except BaseException:
        options.terminate = True
        # Python must not exit while the thread runs.
        thread.join()
        raise
    [features] = outcome
    if isinstance(features, OnnxRefused):
        raise features
    vectors: Vectors = features
    return vectors


def _ran(session: Any, feed: dict[str, NDArray[Any]], options: Any) -> Vectors:
    try:
        features: Vectors = session.run(None, feed, options)[0]
    except Exception as error:
        # ONNX Runtime has an exception for each kind of status, without a common base.
        raise OnnxRefused("an operator that failed") from error
    return features
