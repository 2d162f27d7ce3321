"""All that a plug-in may import: the contract between the harness and its methods, models and data."""

from bench.callback import Callback
from bench.counting import reconnected
from bench.data import (
    Dataset,
    ImageFiles,
    Images,
    Shape,
    Split,
    check_images,
    from_each_class,
    stratified,
    with_validation,
)
from bench.errors import (
    BenchError,
    DataDamaged,
    DataMissing,
    TrialFailed,
    UnknownName,
    UsageError,
)
from bench.gates import Gates, scoring
from bench.layout import Layer, Layout, Site
from bench.masks import Masks, Scope, Scores
from bench.method import Control, Fixture, Level, Method, Rate, Retrain, Score, Start
from bench.modes import evaluating
from bench.network import network
from bench.quality import TASKS
from bench.recipe import Recipe
from bench.seeds import generator
from bench.setting import Reference, State
from bench.states import validated_with
from bench.task import AUTOENCODER, REGRESSION, Evaluation
from bench.trial import Trial

__all__ = [
    "AUTOENCODER",
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
    "Trial",
    "TrialFailed",
    "UnknownName",
    "UsageError",
    "UsageError",
    "check_images",
    "evaluating",
    "from_each_class",
    "generator",
    "network",
    "reconnected",
    "scoring",
    "stratified",
    "validated_with",
    "with_validation",
]
