"""The operations that channels are followed through: one class for each, in the file of its kind.

A class says what it handles and is found by that, so a new operation is a new class, in one of these
files or in a file of its own. `base.py` holds what all have in common.
"""

import importlib
import pkgutil
from collections.abc import Mapping

from torch import fx, nn

from bench.graph.operations.base import Operation, handler_of
from bench.graph.operations.plain import Given, Unknown

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")


def operation_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> Operation:
    """Return what a node does to channels."""
    if node.op in ("placeholder", "get_attr"):
        return Given(node)
    if node.op == "output":
        return Unknown(node)
    return (handler_of(node, modules) or Unknown)(node)
