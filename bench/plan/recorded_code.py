"""The code that a trial's specification names: that very code, and only if it may be run."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bench.errors import UnknownName, UsageError
from bench.plan.plugins import function_in_file, in_file
from bench.plan.registry import KIND_OF, Pinned, Registry, Role
from bench.store.source_copies import SourceCopies, is_source_hash, remembered
from bench.store.source_files import SourceFiles, read_source_files
from bench.store.trial_identity import TrialSpec

ROLES: tuple[Role, ...] = ("method", "model", "dataset")
OF_NETWORK: tuple[Role, ...] = ("model", "dataset")


class NotRunUnasked(UsageError):
    """A record names a file that its reader neither named nor ran before."""


def registry_of_run(registry: Registry, spec: TrialSpec, copies: SourceCopies) -> Registry:
    """Return the plug-ins as they were when a trial was planned, though a file be edited meanwhile.

    Raises:
        UsageError: a file has changed since and its copy is missing.
    """
    pinned = []
    for role, code in _files_named(spec, ROLES):
        files = file_as_named(registry, spec, role)
        if files is None or files.hash != code:
            files = _copy(copies, code, spec, role)
        pinned.append(_pinned(files, spec, role))
    return registry.pinned_to(pinned)


def registry_of_record(registry: Registry, spec: TrialSpec, copies: SourceCopies) -> Registry:
    """Return the plug-ins that a finished trial's network and data set are built with.

    Its files are run where the user names them (`registry`) or has run the same code before.

    Raises:
        NotRunUnasked: neither is so.
        UsageError: the code is not there, or a package is of another version.
    """
    pinned = []
    for role in OF_NETWORK:
        if role not in spec.sources and ".py:" in getattr(spec, role):
            pinned.append(_pinned(_older_file(registry, spec, role), spec, role))
    for role, code in _files_named(spec, OF_NETWORK):
        pinned.append(_pinned(_files(registry, spec, role, code, copies), spec, role))
    for role in OF_NETWORK:
        _check_package(registry, spec, role)
    return registry.pinned_to(pinned)


def file_as_named(registry: Registry, spec: TrialSpec, role: Role) -> SourceFiles | None:
    """Return the file that a specification names, as it is now; it is not run.

    None where it is gone, is no Python for the moment, or no file that its reader names.
    """
    try:
        return registry.files_of(registry.find(KIND_OF[role], getattr(spec, role)).path)
    except UsageError:
        return None


def _files_named(spec: TrialSpec, roles: tuple[Role, ...]) -> Iterator[tuple[Role, str]]:
    for role in roles:
        code = spec.sources.get(role)
        if isinstance(code, str) and is_source_hash(code):
            yield role, code


def _files(
    registry: Registry, spec: TrialSpec, role: Role, code: str, copies: SourceCopies
) -> SourceFiles:
    for files in registry.named_files():
        if files.hash == code:
            return files
    before = remembered(code)
    if before is None:
        raise NotRunUnasked(_not_unasked(spec, role, code, copies))
    with suppress(UsageError):
        now = read_source_files(before)
        if now.hash == code:  # data that it reads may stand beside it, and not beside the copy
            return now
    return _copy(copies, code, spec, role)


def _copy(copies: SourceCopies, code: str, spec: TrialSpec, role: Role) -> SourceFiles:
    try:
        return copies.find(code)
    except UsageError as error:
        raise UsageError(
            f"trial {spec.id} is of the code {code} of the {role} {getattr(spec, role)}, which has "
            f"changed since: {error}; --plugin FILE names a file of that code"
        ) from error


def _not_unasked(spec: TrialSpec, role: Role, code: str, copies: SourceCopies) -> str:
    what = (
        f"the {role} {getattr(spec, role)} of trial {spec.id} is a file (code {code}) that you neither "
        "named nor ran here before, and it is not run unasked"
    )
    try:
        copy = copies.find(code).path
    except UsageError as error:
        return f"{what}; {error}: name a file of that code, --plugin FILE"
    return f"{what}: read {copy}, and name it if you trust it, --plugin {copy}"


def _older_file(registry: Registry, spec: TrialSpec, role: Role) -> SourceFiles:
    """Return the file of a record that was written before records named the code of files."""
    file = Path(getattr(spec, role).rpartition(":")[0])
    for files in registry.named_files():
        if files.main == file.name:
            return files
    raise NotRunUnasked(
        f"the {role} of trial {spec.id} is the file {file}, of which an older version kept no hash, and "
        f"it is not run unasked: read it, and name it if it is the file that was run, --plugin {file}"
    )


def _pinned(files: SourceFiles, spec: TrialSpec, role: Role) -> Pinned:
    """Return what a specification names in a file."""
    kind, name = KIND_OF[role], str(getattr(spec, role))
    if kind == "models" and ".py:" in name:
        found = [function_in_file(f"{files.path}:{name.rpartition(':')[2]}")]
    else:
        found = [e for e in in_file(files.path) if (e.kind, e.name) == (kind, name)]
    if not found:
        raise UsageError(f"{files.path} defines no {role} {name}")
    return Pinned(replace(found[0], name=name), files)


def _check_package(registry: Registry, spec: TrialSpec, role: Role) -> None:
    """Refuse another version of an installed package than the one that was run."""
    if role not in spec.sources or is_source_hash(spec.sources[role]):
        return
    then = spec.sources[role]
    now = ""
    with suppress(UnknownName):
        now = registry.find(KIND_OF[role], getattr(spec, role)).distribution
    if not now or now != then:
        raise UsageError(
            f"the {role} {getattr(spec, role)} of trial {spec.id} is of {then}, and here it is of "
            f"{now or 'no installed package'}; install {then} to build it again"
        )
