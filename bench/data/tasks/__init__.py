"""The tasks that data sets set a network: one file each, found by being here.

A file of a user's own that defines a subclass of `Task` adds one; `base.py` says what it needs.
"""

import importlib
import pkgutil

from bench.data.tasks.base import (
    TASKS,
    Evaluation,
    Loss,
    Task,
    TaskMetric,
    unknown_task,
)

__all__ = ["TASKS", "Evaluation", "Loss", "Task", "TaskMetric", "unknown_task"]

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
