"""A scorer in ONNX: users' rows and items' rows in, scores out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ciess.errors import InputError
from ciess.exports.base import Vectors, library, rising, write_files, write_ids
from ciess.serve.model import CompressedModel

_OPSET, _IR_VERSION = 17, 8
"""Of 2022: old enough for the runtimes in use, new enough for all that is needed."""
_MOST_BYTES = 2**31 - 2**20
"""Of an ONNX file, which is one protocol buffer, less some room for its graph."""


def export_onnx(model: CompressedModel, out: str | Path) -> list[Path]:
    """Write `scorer.onnx`, and the ids of its rows.

    Inputs are `users`, (b,) int64 rows, and `items`, (b, m) int64 rows, each user's own, or (1, m), the same for all;
    output is `scores`, (b, m) float32. Rows count from 0 in rising order of ids, as in `user_ids.parquet` and
    `item_ids.parquet`, column `id`.

    Raises:
        InputError: the model scores neither by inner products nor as NCF does, it takes more than 2 GiB, onnx is not
            installed, or the folder cannot be written.
    """
    onnx = library("onnx")
    users, items, weights = _parts(model)
    needed = 4 * sum(len(side.ids) * side.width for side in (users, items)) + sum(w.nbytes for w in weights.values())
    if needed > _MOST_BYTES:
        raise InputError(
            f"the vectors take {needed / 2**30:.1f} GiB and an ONNX file holds 2: export to another target"
        )
    scorer = _scorer(onnx, {"user_vectors": users.numbers, "item_vectors": items.numbers, **weights})
    return write_files(
        out,
        {
            "scorer.onnx": lambda path: path.write_bytes(scorer.SerializeToString()),
            "user_ids.parquet": lambda path: write_ids(path, users.ids),
            "item_ids.parquet": lambda path: write_ids(path, items.ids),
        },
    )


def _parts(model: CompressedModel) -> tuple[Vectors, Vectors, dict[str, NDArray[np.float32]]]:
    """Users' and items' vectors, and the network's weights by their names, none for inner products."""
    from ciess.models.base import InnerProduct
    from ciess.models.ncf import NCFModel

    backbone = model.backbone
    if not isinstance(backbone, InnerProduct | NCFModel):
        raise InputError(
            f"{model.settings['name']} scores neither by inner products nor as NCF does: it cannot be exported to ONNX"
        )
    vectors = model.represented
    users, items = (
        rising(ids, side.shape[1], side.numpy().__getitem__)
        for ids, side in zip((model.user_ids, model.item_ids), vectors, strict=True)
    )
    if isinstance(backbone, InnerProduct):
        return users, items, {}
    return users, items, {"mlp_output": backbone.mlp_output.detach().numpy()[:, None]}


def _scorer(onnx: Any, arrays: Mapping[str, NDArray[np.float32]]) -> Any:
    """The graph: vectors of the rows asked for, their inner products, and NCF's hidden layer if there is one."""
    helper, types = onnx.helper, onnx.TensorProto
    hidden = len(arrays.get("mlp_output", ()))
    constants = dict(arrays, axis=np.array([1]))
    nodes = [
        helper.make_node("Gather", ["user_vectors", "users"], ["user_rows"]),
        helper.make_node("Gather", ["item_vectors", "items"], ["item_rows"]),
        helper.make_node("Unsqueeze", ["user_rows", "axis"], ["user"]),
    ]
    if hidden:
        width = arrays["user_vectors"].shape[1]
        constants |= {"branches": np.array([width - hidden, hidden]), "last": np.array([2])}
        nodes += [
            helper.make_node("Split", ["user", "branches"], ["user_gmf", "user_mlp"], axis=2),
            helper.make_node("Split", ["item_rows", "branches"], ["item_gmf", "item_mlp"], axis=2),
            helper.make_node("Add", ["user_mlp", "item_mlp"], ["entering"]),
            helper.make_node("Relu", ["entering"], ["hidden"]),
            helper.make_node("MatMul", ["hidden", "mlp_output"], ["mlp_column"]),
            helper.make_node("Squeeze", ["mlp_column", "last"], ["mlp_scores"]),
        ]
    user, item, scores = ("user_gmf", "item_gmf", "gmf_scores") if hidden else ("user", "item_rows", "scores")
    nodes += [
        helper.make_node("Transpose", [item], ["item_columns"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [user, "item_columns"], ["products"]),
        helper.make_node("Squeeze", ["products", "axis"], [scores]),
    ]
    if hidden:
        nodes.append(helper.make_node("Add", ["gmf_scores", "mlp_scores"], ["scores"]))
    graph = helper.make_graph(
        nodes,
        "scorer",
        inputs=[
            helper.make_tensor_value_info("users", types.INT64, ["batch"]),
            helper.make_tensor_value_info("items", types.INT64, ["batch or 1", "candidates"]),
        ],
        outputs=[helper.make_tensor_value_info("scores", types.FLOAT, ["batch", "candidates"])],
        initializer=[onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    scorer = helper.make_model(
        graph, producer_name="ciess", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(scorer)
    return scorer
