"""From requests to a graph of trials: every cell, its controls, and what waits for what."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.choices import Budget, Controls, Coupling
from bench.errors import BenchError, UnknownName, UsageError, in_words
from bench.graph.structure import Layout
from bench.plan.build_network import build
from bench.plan.data_identity import DataIdentities
from bench.plan.options import grid, method_of, non_default, recipe_of
from bench.plan.registry import Registry
from bench.plan.request import Request, parse_seeds, parse_targets
from bench.store.json_values import JsonObject
from bench.store.trial_identity import TrialSpec
from bench.training.method import Fixture, Method
from bench.training.network import about
from bench.training.pretrained import check_file, identity_of, is_of_a_file
from bench.training.recipe import PROTOCOL_VERSION, Recipe


@dataclass(frozen=True)
class Chain:
    """Trials that one worker runs in turn: one method on one seed, targets ascending.

    Attributes:
        after: indices of the chains whose trials these follow.
    """

    trials: tuple[str, ...]
    after: tuple[int, ...] = ()


@dataclass
class Plan:
    """Trials by id, in the order they are best run, and their chains."""

    trials: dict[str, TrialSpec] = field(default_factory=dict)
    chains: list[Chain] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _chain_of: dict[str, int] = field(default_factory=dict, repr=False)

    def add(self, specs: list[TrialSpec]) -> None:
        """Add a chain; trials that are planned already are not planned twice."""
        new = [s for s in specs if s.id not in self.trials]
        if not new:
            return
        after = {self._chain_of[i] for s in new for i in s.depends_on}
        self._chain_of |= dict.fromkeys((s.id for s in new), len(self.chains))
        self.trials |= {s.id: s for s in new}
        self.chains.append(Chain(tuple(s.id for s in new), tuple(sorted(after))))


@dataclass(frozen=True)
class _Cell:
    """One method with its options in one setting: a specification without method, seed and target."""

    method: str
    options: JsonObject
    built: Method
    setting: TrialSpec
    targets: tuple[float | None, ...]


def make_plan(
    registry: Registry,
    asked: list[Request],
    threads: int = 1,
    data: DataIdentities | None = None,
) -> Plan:
    """Expand requests into trials.

    Args:
        data: finds what the data of the trials are; by default below `data`.

    Raises:
        UsageError: a name, an option or a combination that cannot work, with the reason.
    """
    plan = Plan()
    data = data or DataIdentities(registry, Path("data"))
    checker = _Checker(registry)
    for request in asked:
        cells = list(_cells(registry, request, checker, threads))
        plan.notes += _unused_weights(request, cells)
        seeds = parse_seeds(request.seeds)
        for seed in seeds:
            for setting in _distinct([cell.setting for cell in cells]):
                if request.controls != "none":
                    plan.add([_spec(registry, "dense", setting, seed, data)])
        # Methods that train in their own way go first: the others wait for the dense training.
        cells.sort(key=lambda cell: cell.built.rate_here() != "emergent")
        for seed in seeds:
            for cell in cells:
                _add_cell(plan, registry, cell, seed, request.controls, data)
    plan.notes += [*checker.notes, *checker.faults.values()]
    if not plan.trials:
        raise UsageError("This asks for no trial at all: only controls of other methods are named")
    return plan


def _cells(
    registry: Registry, request: Request, checker: "_Checker", threads: int
) -> Iterator[_Cell]:
    methods = _runnable(registry, request)
    _refuse_stray_options(request, methods)
    targets = tuple(parse_targets(request.targets))
    for model, dataset in _pairs(registry, request):
        setting = TrialSpec(
            method="", method_version=0, model=model, dataset=dataset, seed=0, budget=request.budget,
            protocol_version=PROTOCOL_VERSION, threads=threads, coupling=request.coupling,
            recipe=_recipe(registry, model, dataset, request),
            sources=registry.own_code(model=model, dataset=dataset),
        )  # fmt: skip
        weights = checker.weights(request, model, dataset)
        for method in methods:
            for options in grid(request.options.get(method, {})):
                built = method_of(registry, method, options)
                checker.check(method, built, setting)
                own = targets if built.rate_here() == "target" else (None,)
                starts_from = weights if built.takes_weights() else None
                own_setting = dataclasses.replace(setting, weights=starts_from)
                yield _Cell(method, non_default(built), built, own_setting, own)


def _pairs(registry: Registry, request: Request) -> list[tuple[str, str]]:
    """Return every model on every data set; where none is named, what fits the data set's task."""
    datasets = registry.resolve("datasets", _list(request.datasets))
    if request.models is None:
        return [(_default_model(registry, name), name) for name in datasets]
    return [(m, d) for m in registry.resolve("models", _list(request.models)) for d in datasets]


def _default_model(registry: Registry, dataset: str) -> str:
    task = registry.dataset(dataset).task
    if not task.default_model:
        raise UsageError(
            f"the task {task.name!r} of {dataset} has no network of its own; name one with --models"
        )
    return task.default_model


def _unused_weights(request: Request, cells: list[_Cell]) -> list[str]:
    """Say which methods start from initialisation whatever --weights says."""
    without = dict.fromkeys(c.method for c in cells if c.setting.weights is None)
    if request.weights is None or not without:
        return []
    return [
        f"--weights {request.weights} is of no use to {', '.join(without)}: trained from scratch"
    ]


def _add_cell(
    plan: Plan,
    registry: Registry,
    cell: _Cell,
    seed: int,
    controls: Controls,
    data: DataIdentities,
) -> None:
    specs = [_cell_spec(registry, cell, seed, target, data) for target in cell.targets]
    plan.add(specs)
    if cell.built.rate_here() == "none" or cell.method == "random" or controls == "none":
        return
    roles: list[tuple[str, str]] = [("random", "rates_of")]
    if controls in ("cost", "all"):
        roles.append(("dense", "budget_of"))
    if controls == "all":
        roles.append(("scratch", "rates_of"))
        if cell.method != "magnitude":
            roles.append(("magnitude", "rates_of"))
    for method, role in roles:
        followers = []
        for spec in specs:
            control = _spec(registry, method, cell.setting, seed, data)
            target = None if method == "dense" else spec.target
            ids = {"rates_of": spec.id} if role == "rates_of" else {"budget_of": spec.id}
            followers.append(dataclasses.replace(control, target=target, **ids))  # type: ignore[arg-type]
        plan.add(followers)


def _cell_spec(
    registry: Registry, cell: _Cell, seed: int, target: float | None, data: DataIdentities
) -> TrialSpec:
    spec = _spec(registry, cell.method, cell.setting, seed, data)
    return dataclasses.replace(
        spec, method_version=cell.built.version, options=cell.options, target=target
    )


def _spec(
    registry: Registry, method: str, setting: TrialSpec, seed: int, data: DataIdentities
) -> TrialSpec:
    version = registry.method(method).version
    sources = setting.sources | registry.own_code(method=method)
    placed = _with_data(setting, seed, data)
    return dataclasses.replace(placed, method=method, method_version=version, sources=sources)


def _with_data(setting: TrialSpec, seed: int, data: DataIdentities) -> TrialSpec:
    """Return a setting for one seed, with its data as they are now."""
    found = data.of(setting.dataset, seed)
    if found is None:
        return dataclasses.replace(setting, seed=seed)
    return dataclasses.replace(setting, seed=seed, dataset=found.dataset, data=found.digest)


def _runnable(registry: Registry, request: Request) -> list[str]:
    """Return the methods asked for; `all` and wildcards leave out those that only follow others."""
    asked = _list(request.methods)
    named = {p.strip() for given in asked for p in given.split(",")}
    methods = []
    for name in registry.resolve("methods", asked):
        if not registry.method(name).is_control:
            methods.append(name)
        elif name in named:
            raise UsageError(f"{name} only follows other trials; --controls all adds it to them")
    return methods


def _refuse_stray_options(request: Request, methods: list[str]) -> None:
    for owner in request.options:
        if owner not in (*methods, "recipe"):
            raise UnknownName("owner of options", owner, [*methods, "recipe"])


def _recipe(registry: Registry, model: str, dataset: str, request: Request) -> JsonObject:
    """Return the network's recipe at this budget's length, with the data set's augmentation."""
    budget: Budget = request.budget
    base = about(registry.model(model)).recipe.for_budget(budget)
    augment = registry.dataset(dataset).augment
    if base.augment == "none":
        base = dataclasses.replace(base, augment=augment)
    changes = request.options.get("recipe", {})
    for name, value in changes.items():
        if isinstance(value, list) and name != "milestones":
            raise UsageError(
                f"recipe.{name}: one value at a time; a recipe is the same for all trials"
            )
    return non_default(recipe_of(base, changes))


class _Checker:
    """Refuses combinations that cannot work, before anything is started.

    Attributes:
        faults: what went wrong while a network was looked at, by the network and data set.
        notes: what is taken otherwise than it was given.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.faults: dict[tuple[str, str], str] = {}
        self.notes: dict[str, None] = {}
        self._layouts: dict[tuple[str, str, Coupling], Layout] = {}

    def check(self, name: str, method: Method, setting: TrialSpec) -> None:
        model, dataset = setting.model, setting.dataset
        if (model, dataset) in self.faults:
            return
        try:
            on, why_not = self._fixture(setting)
        except BenchError:
            raise
        except Exception as error:  # a fault of ours ends this network's trials, not all of them
            self.faults[model, dataset] = (
                f"{model} on {dataset} could not be checked, and its trials will fail: "
                f"{in_words(error)}"
            )
            return
        reason = method.impossible(on)
        if reason:
            more = f": {why_not}" if why_not and not on.has_sites else ""
            raise UsageError(f"{name} cannot prune {model} on {dataset}: {reason}{more}")

    def weights(self, request: Request, model: str, dataset: str) -> str | None:
        """Return the identity of the weights asked for; refuse a file that does not fit the network."""
        if request.weights is None:
            return None
        published = about(self.registry.model(model)).weights
        identity = identity_of(model, request.weights, published)
        if is_of_a_file(identity):
            network, layout = build(self.registry, model, self.registry.dataset(dataset), seed=0)
            file = Path(request.weights)
            fresh = check_file(file, network, layout, model)
            if fresh:
                self.notes[
                    f"the classifier of --weights {file} is for other classes than {model} on {dataset} "
                    f"has: {' and '.join(fresh)} start as initialised"
                ] = None
        return identity

    def _fixture(self, setting: TrialSpec) -> tuple[Fixture, str]:
        key = (setting.model, setting.dataset, setting.coupling)
        source = self.registry.dataset(setting.dataset)
        if key not in self._layouts:
            self._layouts[key] = build(self.registry, setting.model, source, 0, setting.coupling)[1]
        layout = self._layouts[key]
        layers = layout.own_layers
        fixture = Fixture(
            source.classes, source.task.name, any(not s.is_input for s in layout.sites),
            recipe_of(Recipe(), setting.recipe), tuple(la.name for la in layers),
            tuple(la.name for la in layers if not la.is_convolution),
        )  # fmt: skip
        return fixture, layout.why_no_sites


def _distinct(settings: list[TrialSpec]) -> list[TrialSpec]:
    return list({setting.id: setting for setting in settings}.values())


def _list(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names
