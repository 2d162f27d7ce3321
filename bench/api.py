"""All that a plug-in may import: the contract between the harness and its methods, models and data."""

from bench.callback import Callback
from bench.counting import reconnected
from bench.data import (
    Dataset,
    Images,
    Shape,
    Split,
    check_images,
    stratified,
    with_validation,
)
from bench.errors import BenchError, DataDamaged, DataMissing, TrialFailed
from bench.evaluation import Evaluation
from bench.gates import Gates, scoring
from bench.layout import Layout, Site
from bench.masks import Masks, Scope, Scores
from bench.method import Control, Level, Method, Retrain, Score, Start
from bench.modes import evaluating
from bench.network import network
from bench.recipe import Recipe
from bench.setting import Reference, State
from bench.trial import Trial

__all__ = [
    "BenchError",
    "Callback",
    "Control",
    "DataDamaged",
    "DataMissing",
    "Dataset",
    "Evaluation",
    "Gates",
    "Images",
    "Layout",
    "Level",
    "Masks",
    "Method",
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
    "check_images",
    "evaluating",
    "network",
    "reconnected",
    "scoring",
    "stratified",
    "with_validation",
]
