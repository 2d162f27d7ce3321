"""JSON Schemas of the records, made from their models.

python -m bench.store.schema docs/schema        writes them
"""

import json
import sys
from pathlib import Path

from bench.store.json_values import JsonObject
from bench.store.phase_records import CallPhase, Progress, TrainingPhase
from bench.store.records import (
    CostRecord,
    EnvironmentRecord,
    ErrorRecord,
    PlanRecord,
    Record,
    ResultRecord,
    SpecRecord,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
RECORDS: dict[str, type[Record]] = {
    "plan": PlanRecord,
    "result": ResultRecord,
    "cost": CostRecord,
    "spec": SpecRecord,
    "env": EnvironmentRecord,
    "error": ErrorRecord,
    "training-phase": TrainingPhase,
    "call-phase": CallPhase,
    "progress": Progress,
}


def schema_of(kind: type[Record]) -> JsonObject:
    """Return the JSON Schema of a record."""
    return {"$schema": DIALECT, **kind.model_json_schema()}


def files() -> dict[str, str]:
    """Return the content of every schema file, by name."""
    return {
        f"{name}.schema.json": json.dumps(schema_of(kind), indent=1, ensure_ascii=False) + "\n"
        for name, kind in RECORDS.items()
    }


def main() -> None:
    """Write the files into a folder."""
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m bench.store.schema FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
