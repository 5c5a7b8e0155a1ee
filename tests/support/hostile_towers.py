"""Databases with hostile towers, one for each kind of harm, made from a sound one."""

import json
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, StringStringEntryProto, TensorProto, helper
from onnx.numpy_helper import from_array

INT64, FLOAT = TensorProto.INT64, TensorProto.FLOAT
WIDTH = 16

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


def rewrite(database: Path, change: Change, tower: str = "text") -> None:
    """Change the facts and sections of a tower, and store it with its new digest."""
    from datasette_clip_search.database.model import default_model
    from datasette_clip_search.models.towers.stored import (
        pack_tower,
        read_manifest,
        read_tower,
        write_tower,
    )

    with closing(sqlite3.connect(database)) as connection:
        _, model = default_model(connection)
        manifest = read_manifest(connection, model, tower)
        kept = read_tower(connection, model, manifest, tower)
        ours = ("format", "needs", "sections", "sha256", "made")
        facts = {name: value for name, value in kept.facts.items() if name not in ours}
        sections = dict(kept.sections)
        change(facts, sections)
        manifest, _ = pack_tower(facts, sections)
        write_tower(connection, model, manifest, sections, tower)


def change_manifest(database: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the facts of a text tower in place, so that its digest no longer fits."""
    with closing(sqlite3.connect(database)) as connection, connection:
        where = "where tower = 'text' and part = 0"
        [facts] = connection.execute(f"select data from clip_towers {where}").fetchone()
        facts = json.loads(facts)
        given = change(facts)
        text = given if isinstance(given, str) else json.dumps(facts)
        connection.execute(f"update clip_towers set data = ? {where}", [text])


def execute(database: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(sql, parameters)


class Build:
    """A graph over tokens, with constants like those of our own graphs."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, type: Any = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(from_array(np.array(value, type), name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [name], domain=domain, **attributes)
        self.nodes.append(node)
        return name

    def scalar(self) -> str:
        """Add a float32 () that depends on the tokens, so that nothing is folded away."""
        floats = self.add("Cast", "tokens", to=FLOAT)
        return self.add("ReduceMean", floats, keepdims=0)

    def vectors(self, x: str) -> str:
        """Add (n, WIDTH) of a float32 of any shape."""
        mean = self.add("ReduceMean", x, keepdims=0)
        ones = self.constant(np.ones((1, WIDTH)), np.float32)
        first = self.add("Slice", "tokens", *map(self.constant, ([0], [1], [1])))
        rows = self.add("Cast", first, to=FLOAT)
        zero = self.add("Mul", rows, self.constant(0, np.float32))
        return self.add("Add", self.add("Mul", ones, mean), zero)

    def model(self, output: str | None = None) -> ModelProto:
        self.nodes[-1].output[0] = "features"
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("tokens", INT64, ["n", "length"])],
            [helper.make_tensor_value_info("features", FLOAT, ["n", "d"])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def graph(build: Callable[[Build], str | None], wrap: bool = True) -> Change:
    """Return a change that replaces a tower by a graph; `wrap` turns its output into vectors."""

    def change(facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        made = Build()
        x = build(made)
        if wrap and x:
            made.vectors(x)
        sections["onnx"] = made.model().SerializeToString()

    return change


def file(change_file: Callable[[ModelProto], object]) -> Change:
    """Return a change to the ONNX file of a sound tower; `change` may return new bytes."""

    def change(facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        model = ModelProto.FromString(sections["onnx"])
        given = change_file(model)
        sections["onnx"] = given if isinstance(given, bytes) else model.SerializeToString()

    return change


def _make_external(tensor: Any, location: str = "secret.bin") -> None:
    tensor.data_location = TensorProto.EXTERNAL
    size = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    for key, value in (("location", location), ("offset", "0"), ("length", str(size))):
        tensor.external_data.append(StringStringEntryProto(key=key, value=value))


def _external_attribute(b: Build) -> str:
    value = from_array(np.ones(1, np.float32), "v")
    _make_external(value)
    return b.add("ConstantOfShape", b.constant([1]), value=value)


def _body(operator: str) -> Any:
    """Return a body that a loop, a scan or a branch may have."""
    x = helper.make_tensor_value_info("x", FLOAT, [])
    y = helper.make_tensor_value_info("y", FLOAT, [])
    inputs = [] if operator == "If" else [x]
    nodes = [helper.make_node("Identity", ["x"] if inputs else ["outer"], ["y"])]
    return helper.make_graph(nodes, "body", inputs, [y])


def _loop(b: Build) -> str:
    i = helper.make_tensor_value_info("i", INT64, [])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    c2 = helper.make_tensor_value_info("c2", TensorProto.BOOL, [])
    s, s2 = (helper.make_tensor_value_info(name, FLOAT, []) for name in ("s", "s2"))
    nodes = [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Neg", ["s"], ["s2"])]
    body = helper.make_graph(nodes, "body", [i, c, s], [c2, s2])
    return b.add("Loop", b.constant(2**62), b.constant(True, bool), b.scalar(), body=body)


def _function(model: ModelProto) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    function = helper.make_function("", "Add", ["x", "z"], ["y"], nodes, model.opset_import)
    model.functions.append(function)


def _sparse(model: ModelProto) -> None:
    values = helper.make_tensor("sparse", FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", INT64, [1], [0])
    tensor = helper.make_sparse_tensor(values, indices, [1 << 40])
    model.graph.sparse_initializer.append(tensor)


def _optional(model: ModelProto) -> None:
    inner = model.graph.input[0].type.tensor_type
    kept = helper.make_tensor_type_proto(inner.elem_type, ["n", "length"])
    model.graph.input[0].type.CopyFrom(helper.make_optional_type_proto(kept))


def _huge(b: Build) -> str:
    return b.add("ConstantOfShape", b.constant([3 << 18, 1024]))


def _huge_by_tokens(b: Build) -> str:
    zero = b.add("Mul", b.add("ReduceSum", "tokens", keepdims=0), b.constant([0]))
    return b.add("ConstantOfShape", b.add("Add", b.constant([3 << 18, 1024]), zero))


def _huge_by_lengths(b: Build) -> str:
    """Add what is small for the longest texts and enormous for short ones."""
    shape = b.add("Shape", "tokens", start=1, end=2)
    missing = b.add("Sub", b.constant([77]), shape)
    return b.add("ConstantOfShape", b.add("Mul", missing, b.constant([1 << 27])))


def _outer(b: Build) -> str:
    column = b.add("Add", b.constant(np.ones((40_000, 1)), np.float32), b.scalar())
    return b.add("MatMul", column, b.constant(np.ones((1, 40_000)), np.float32))


def _outer_sum(b: Build) -> str:
    column = b.add("Add", b.constant(np.ones((40_000, 1)), np.float32), b.scalar())
    return b.add("Add", column, b.constant(np.ones((1, 40_000)), np.float32))


def _doubled(b: Build) -> str:
    x = b.add("Unsqueeze", b.scalar(), b.constant([0]))
    for _ in range(40):
        x = b.add("Concat", x, x, axis=0)
    return x


def _tiled(b: Build) -> str:
    x = b.add("Unsqueeze", b.scalar(), b.constant([0]))
    return b.add("Tile", x, b.constant([1 << 32]))


def _expanded(b: Build) -> str:
    return b.add("Expand", b.scalar(), b.constant([1 << 15, 1 << 15]))


def _ranged(b: Build) -> str:
    return b.add("Cast", b.add("Range", *map(b.constant, (0, 1 << 40, 1))), to=FLOAT)


def _padded(b: Build) -> str:
    x = b.add("Unsqueeze", b.scalar(), b.constant([0]))
    return b.add("Pad", x, b.constant([0, 1 << 33]))


def _gathered(b: Build) -> str:
    x = b.add("Expand", b.scalar(), b.constant([20_000]))
    places = b.add("ConstantOfShape", b.constant([20_000]), value=from_array(np.array([0])))
    twice = b.add("Unsqueeze", x, b.constant([0]))
    rows = b.add("Gather", twice, places, axis=0)
    return rows


def _folded(b: Build) -> str:
    side = 2048
    ones = b.add("ConstantOfShape", b.constant([side, side]))
    for _ in range(50):
        ones = b.add("MatMul", ones, ones)
    return b.add("Mul", ones, b.scalar())


def _folded_copies(b: Build) -> str:
    copies = [b.add("ConstantOfShape", b.constant([1024, 1024])) for _ in range(200)]
    x = b.scalar()
    for copy in copies:
        x = b.add("Add", x, b.add("ReduceMean", copy, keepdims=0))
    return x


def heavy(products: int) -> Callable[[Build], str]:
    """Return a graph of matrix products that take about a fifth of a second each."""

    def build(b: Build) -> str:
        x = b.add("Expand", b.scalar(), b.constant([2048, 2048]))
        for _ in range(products):
            x = b.add("MatMul", x, x)
        return x

    return build


def _cyclic(model: ModelProto) -> None:
    model.graph.node[0].input[0] = model.graph.node[-1].output[0]


def _twice(model: ModelProto) -> None:
    model.graph.node[1].output[0] = model.graph.node[0].output[0]


def _many_nodes(b: Build) -> str:
    x = b.scalar()
    node = helper.make_node("Neg", [x], ["y"])
    b.nodes += [node] * 200_000
    return x


def _lengths(model: ModelProto) -> None:
    tensor = model.graph.initializer.add(name="more", data_type=FLOAT)
    tensor.dims.extend([1 << 62, 1 << 62])


def _nan(b: Build) -> str:
    return b.add("Sqrt", b.constant(-1, np.float32))


def _heads(b: Build) -> str:
    x = [b.scalar()] * 3
    return b.add("MultiHeadAttention", *x, domain="com.microsoft", num_heads=0)


def _bits(b: Build) -> str:
    """Add as many outputs as would be read from far behind the weights."""
    x = b.add("Expand", b.scalar(), b.constant([1, 16]))
    weights, scales = b.constant(np.zeros((1, 1, 16)), np.uint8), b.constant([[1]], np.float32)
    settings = {"K": 16, "N": 1 << 20, "bits": 8, "block_size": 16}
    return b.add("MatMulNBits", x, weights, scales, domain="com.microsoft", **settings)


def _out_of_bounds(b: Build) -> str:
    return b.add("Gather", b.add("Cast", "tokens", to=FLOAT), b.constant([1 << 40]), axis=1)


def _nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        size, at = b"", len(data)
        while at >= 128:
            size, at = size + bytes([at & 127 | 128]), at >> 7
        data = b"\x3a" + size + bytes([at]) + data
    return data


def facts(**values: Any) -> Change:
    """Return a change of facts."""

    def change(all_facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        all_facts.update(values)

    return change


def tokenizer(**values: Any) -> Change:
    """Return a change of a tokenizer's facts."""

    def change(all_facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        all_facts["tokenizer"].update(values)

    return change


def section(name: str, data: bytes) -> Change:
    """Return a change of one section."""

    def change(all_facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        sections[name] = data

    return change


def bomb(size: int) -> bytes:
    """Return compressed bytes that inflate to `size` bytes."""
    packer, zeros = zlib.compressobj(9), bytes(1 << 20)
    parts = [packer.compress(zeros) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


NOT_OURS = "Its text tower is not one that this release makes"
BROKEN = "Its text tower does not load"
DAMAGED = "Its text tower is damaged"

# What replaces a text tower, and what the answer says.
TEXT: dict[str, tuple[Change, str]] = {
    "external": (file(lambda m: _make_external(m.graph.initializer[0])), "data outside the file"),
    "external_up": (
        file(lambda m: _make_external(m.graph.initializer[0], "../" * 12 + "etc/passwd")),
        "data outside the file",
    ),
    "external_memory": (
        file(lambda m: _make_external(m.graph.initializer[0], "*/_ORT_MEM_ADDR_/*")),
        "data outside the file",
    ),
    "external_attribute": (graph(_external_attribute), "data outside the file"),
    "loop": (graph(_loop), "a graph inside an operator"),
    "if": (
        graph(lambda b: b.add("If", b.constant(True, bool), then_branch=_body("If"))),
        "a graph inside an operator",
    ),
    "scan": (
        graph(lambda b: b.add("Scan", b.scalar(), body=_body("Scan"), num_scan_inputs=1)),
        "a graph inside an operator",
    ),
    "function": (file(_function), "functions"),
    "sparse": (file(_sparse), "sparse constants"),
    "optional": (file(_optional), NOT_OURS),
    "custom_domain": (graph(lambda b: b.add("Neg", b.scalar(), domain="evil")), "operator Neg"),
    "operator": (
        graph(lambda b: b.add("RandomNormal", shape=[1 << 30])),
        "the operator RandomNormal",
    ),
    "one_hot": (graph(lambda b: b.add("OneHot", *[b.scalar()] * 3)), "the operator OneHot"),
    "named_oddly": (graph(lambda b: b.add("\x1b[31mNeg", b.scalar())), "without a proper name"),
    "strings": (
        file(lambda m: m.graph.initializer.append(helper.make_tensor("s", 8, [1], [b"x"]))),
        NOT_OURS,
    ),
    "huge": (graph(_huge), NOT_OURS),
    "huge_by_tokens": (graph(_huge_by_tokens), "unknown before it runs"),
    "huge_by_lengths": (graph(_huge_by_lengths), "makes no vector of this query"),
    "outer_product": (graph(_outer), "more work or memory"),
    "outer_sum": (graph(_outer_sum), "more work or memory"),
    "doubled": (graph(_doubled), NOT_OURS),
    "tiled": (graph(_tiled), NOT_OURS),
    "expanded": (graph(_expanded), "more work or memory"),
    "ranged": (graph(_ranged), NOT_OURS),
    "padded": (graph(_padded), NOT_OURS),
    "gathered": (graph(_gathered), "more work or memory"),
    "folded_products": (graph(_folded), "MatMul of constants alone"),
    "folded_copies": (
        graph(_folded_copies),
        "computed constants larger than its weights",
    ),
    "endless_products": (graph(heavy(200)), "more work or memory"),
    "cyclic": (file(_cyclic), "before its inputs"),
    "twice": (file(_twice), "two values with one name"),
    "many_nodes": (graph(_many_nodes), "more than 10000 values for nodes"),
    "lengths": (file(_lengths), "whose size differs from its data's"),
    "opset": (
        file(lambda m: setattr(m.opset_import[0], "version", 1)),
        "unsupported operator sets",
    ),
    "version": (
        file(lambda m: setattr(m, "ir_version", 1 << 40)),
        "unsupported version of ONNX",
    ),
    "wide": (
        graph(lambda b: b.constants.clear() or b.add("Cast", "tokens", to=FLOAT), wrap=False),
        "vectors of an unexpected shape",
    ),
    "another_input": (file(lambda m: setattr(m.graph.input[0], "name", "words")), NOT_OURS),
    "not_a_number": (graph(_nan), "makes no vector of this query"),
    "heads": (graph(_heads), "MultiHeadAttention with unexpected shapes or settings"),
    "bits": (graph(_bits), "MatMulNBits with unexpected shapes or settings"),
    "out_of_bounds": (graph(_out_of_bounds), "makes no vector of this query"),
    "attribute": (
        file(
            lambda m: m.graph.node[0].attribute.append(
                AttributeProto(name="extra", type=AttributeProto.FLOATS, floats=[1.0])
            )
        ),
        NOT_OURS,
    ),
    "nested": (section("onnx", _nested(100_000)), NOT_OURS),
    "truncated": (file(lambda m: m.SerializeToString()[:-10]), NOT_OURS),
    "garbage": (section("onnx", b"\xff" * 1000), NOT_OURS),
    "empty": (section("onnx", b""), NOT_OURS),
    "text_bomb": (section("tokenizer", bomb(1 << 30)), BROKEN),
    "broken_text": (section("tokenizer", b"x"), BROKEN),
    "merges": (section("tokenizer", zlib.compress(b"a b\n" * 900_000)), BROKEN),
    "context": (tokenizer(context_length=3 * 10**8), BROKEN),
    "context_text": (tokenizer(context_length="77"), BROKEN),
    "context_minus": (tokenizer(context_length=-1), BROKEN),
    "special_number": (tokenizer(special=[1, 2]), BROKEN),
    "special_many": (tokenizer(special=["<x>"] * 2000), BROKEN),
    "special_long": (tokenizer(special=["<a>", "<b>", "x" * 101]), BROKEN),
    "cleaning": (tokenizer(clean="__import__"), BROKEN),
    "kind": (tokenizer(kind="pickle"), BROKEN),
    "scale_infinite": (facts(logit_scale=float("inf")), BROKEN),
    "scale_nan": (facts(logit_scale=float("nan")), BROKEN),
    "scale_text": (facts(logit_scale="7"), BROKEN),
    "scale_huge": (facts(logit_scale=10**400), BROKEN),
    "example_deep": (section("example", b"[" * 100_000), BROKEN),
    "example_wide": (
        section("example", json.dumps({"text": "a", "vector": [1.0] * 17}).encode()),
        BROKEN,
    ),
    "example_text": (
        section("example", json.dumps({"text": ["a"], "vector": [1.0] * 16}).encode()),
        BROKEN,
    ),
}

MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format_text": (lambda facts: facts.update(format="1"), DAMAGED),
    "format_newer": (lambda facts: facts.update(format=10**300), "made by a newer release"),
    "needs_controls": (lambda facts: facts.update(format=9, needs="1\x1b[2J'; rm -rf"), DAMAGED),
    "no_object": (lambda facts: "[1]", DAMAGED),
    "deep": (lambda facts: "[" * 100_000, DAMAGED),
    "long": (lambda facts: json.dumps({**facts, "more": "x" * 10**7}), DAMAGED),
    "number": (lambda facts: json.dumps(facts)[:-1] + ', "more": ' + "9" * 5000 + "}", DAMAGED),
    "dimension": (lambda facts: facts.update(dimension=10**9), "of another length"),
    "dimension_text": (lambda facts: facts.update(dimension="16"), "of another length"),
    "fingerprint": (lambda facts: facts.update(fingerprint="x"), "to other weights"),
    "sections_list": (lambda facts: facts.update(sections=[1, 2, 3]), DAMAGED),
    "sections_more": (lambda facts: facts["sections"].update(more=0), DAMAGED),
    "size_minus": (lambda facts: facts["sections"].update(onnx=-1), DAMAGED),
    "size_true": (lambda facts: facts["sections"].update(onnx=True), DAMAGED),
    "size_huge": (lambda facts: facts["sections"].update(onnx=10**18), "and the limit is"),
    "size_large": (lambda facts: facts["sections"].update(onnx=10**9), DAMAGED),
    "size_small": (lambda facts: facts["sections"].update(tokenizer=1), DAMAGED),
    "digest": (lambda facts: facts.update(sha256="0" * 64), DAMAGED),
    "refused": (lambda facts: facts.update(refused="\x1b[2J" * 10**4, release=[]), "No text tower"),
}

PARTS = {
    "part_missing": "delete from clip_towers where tower = 'text' and part = 2",
    "part_text": "update clip_towers set data = 'x' where tower = 'text' and part = 2",
    "part_empty": "update clip_towers set data = x'' where tower = 'text' and part = 2",
    "part_huge": """update clip_towers set data = zeroblob(300000000)
        where tower = 'text' and part = 1""",
    "part_more": """insert into clip_towers
        select model_id, tower, 9999, precision, data from clip_towers where part = 1""",
    "part_no_text": """update clip_towers set data = cast(x'7bff' as text)
        where tower = 'text' and part = 1""",
    "manifest_no_text": """update clip_towers set data = cast(x'7bff' as text)
        where tower = 'text' and part = 0""",
    "manifest_blob": """update clip_towers set data = cast(data as blob)
        where tower = 'text' and part = 0""",
    "parts_all": "delete from clip_towers where tower = 'text' and part > 0",
}


def preprocess(**values: Any) -> Change:
    """Return a change of an image tower's preprocessing."""

    def change(all_facts: dict[str, Any], sections: dict[str, bytes]) -> None:
        all_facts["preprocess"].update(values)

    return change


def _another(operator: str) -> Change:
    return file(lambda m: setattr(m.graph.node[0], "op_type", operator))


PICTURE_BROKEN = "Its image tower does not load"
PICTURE_NOT_OURS = "Its image tower is not one that this release makes"

# What replaces an image tower.
IMAGE: dict[str, tuple[Change, str]] = {
    "sides_huge": (preprocess(height=10**9, width=10**9), PICTURE_BROKEN),
    "sides_other": (preprocess(height=64), PICTURE_NOT_OURS),
    "sides_text": (preprocess(height="32"), PICTURE_BROKEN),
    "sides_none": (preprocess(height=0), PICTURE_BROKEN),
    "means_text": (preprocess(mean="abc"), PICTURE_BROKEN),
    "means_many": (preprocess(mean=[0.5] * 10**4), PICTURE_BROKEN),
    "means_infinite": (preprocess(mean=[float("inf")] * 3), PICTURE_BROKEN),
    "deviation_zero": (preprocess(std=[0, 0, 0]), PICTURE_BROKEN),
    "resized_oddly": (preprocess(resize_mode=["shortest"]), PICTURE_BROKEN),
    "filled_oddly": (preprocess(fill_color=10**9), PICTURE_BROKEN),
    "size_of_open_clip": (
        facts(preprocess={"size": 10**9, "mean": [0] * 3, "std": [1] * 3}),
        PICTURE_BROKEN,
    ),
    "picture_short": (section("picture", b"x"), PICTURE_BROKEN),
    "vector_short": (section("vector", b"1234"), PICTURE_BROKEN),
    "precision": (facts(precision="\x1b[2J"), PICTURE_BROKEN),
    "picture_external": (
        file(lambda m: _make_external(m.graph.initializer[0])),
        "data outside the file",
    ),
    "picture_loop": (_another("Loop"), "the operator Loop"),
    "picture_garbage": (section("onnx", b"\x08"), PICTURE_NOT_OURS),
    "text_in_place": (graph(lambda b: b.scalar()), "an unexpected input"),
}


def make_images(sound: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """Make a database for each kind of image tower; return the message that each should give."""
    made = {}
    for name, (change, says) in IMAGE.items():
        made[name] = Path(shutil.copy(sound, folder / f"{name}.db")), says
        rewrite(made[name][0], change, "image")
    return made


def make_all(sound: Path, folder: Path) -> dict[str, tuple[Path, str]]:
    """Make a database of each kind; return the message that each should give."""
    made: dict[str, tuple[Path, str]] = {}

    def copy(name: str, says: str) -> Path:
        made[name] = folder / f"{name}.db", says
        return shutil.copy(sound, folder / f"{name}.db")

    for name, (change, says) in TEXT.items():
        rewrite(copy(name, says), change)
    for name, (change_facts, says) in MANIFESTS.items():
        change_manifest(copy(f"manifest_{name}", says), change_facts)
    return made


def make_parts(sound: Path, folder: Path) -> dict[str, Path]:
    """Make databases with a sound manifest and parts that do not match it."""
    made = {name: Path(shutil.copy(sound, folder / f"{name}.db")) for name in PARTS}
    for name, sql in PARTS.items():
        execute(made[name], sql)
    return made
