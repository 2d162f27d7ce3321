"""All that a plug-in may import: the contract between the harness and its methods, models and data."""

from bench.data.dataset import Dataset, check_images
from bench.data.images import ImageFiles, Images, Shape
from bench.data.ordinary_files import is_folder, size_of_file
from bench.data.splits import (
    PART_NAMES,
    PartName,
    Split,
    from_each_class,
    stratified,
    train_and_validation,
    with_validation,
)
from bench.data.tasks import TASKS, Evaluation, Task, TaskMetric
from bench.data.tasks.autoencoder import AUTOENCODER
from bench.data.tasks.classification import CLASSIFICATION
from bench.data.tasks.regression import REGRESSION
from bench.errors import (
    BenchError,
    DataDamaged,
    DataMissing,
    TrialFailed,
    UnknownName,
    UsageError,
)
from bench.graph.count import reconnected
from bench.graph.eval_mode import evaluating, scoring
from bench.graph.layers import Layer, Site
from bench.graph.structure import Layout
from bench.pruning.gates import Gates
from bench.pruning.masks import Masks, Scope, Scores
from bench.regular_file import printable
from bench.seeds import generator
from bench.training.contract import Callback, Reference, State, Trial
from bench.training.method import Control, Fixture, Level, Method, Rate, Retrain, Score, Start
from bench.training.network import network
from bench.training.recipe import Recipe
from bench.training.trial import validated_with

__all__ = [
    "AUTOENCODER",
    "CLASSIFICATION",
    "PART_NAMES",
    "REGRESSION",
    "TASKS",
    "BenchError",
    "Callback",
    "Control",
    "DataDamaged",
    "DataMissing",
    "Dataset",
    "Evaluation",
    "Fixture",
    "Gates",
    "ImageFiles",
    "Images",
    "Layer",
    "Layout",
    "Level",
    "Masks",
    "Method",
    "PartName",
    "Rate",
    "Recipe",
    "Reference",
    "Retrain",
    "Scope",
    "Score",
    "Scores",
    "Shape",
    "Site",
    "Split",
    "Start",
    "State",
    "Task",
    "TaskMetric",
    "Trial",
    "TrialFailed",
    "UnknownName",
    "UsageError",
    "check_images",
    "evaluating",
    "from_each_class",
    "generator",
    "is_folder",
    "network",
    "printable",
    "reconnected",
    "scoring",
    "size_of_file",
    "stratified",
    "train_and_validation",
    "validated_with",
    "with_validation",
]
