"""`imagefolder:PATH` as people write paths: with commas, with ~, with a slash at the end."""

from pathlib import Path

import pytest
from small_images import write_image

from bench.errors import UsageError
from bench.plan.data_identity import DataIdentities
from bench.plan.registry import Registry


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("photos", "with,comma", "with,comma,twice"):
        for number, name in enumerate(("ant", "bee")):
            for i in range(5):
                write_image(tmp_path / folder / name / f"{i}.png", seed=10 * number + i)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("imagefolder:with,comma", ["imagefolder:with,comma"]),
        ("digits,imagefolder:with,comma,mnist", ["digits", "imagefolder:with,comma", "mnist"]),
        ("imagefolder:with,comma,twice", ["imagefolder:with,comma,twice"]),
        ("imagefolder:photos,digits", ["imagefolder:photos", "digits"]),
        ("imagefolder:photos,imagefolder:with,comma", ["imagefolder:photos", "imagefolder:with,comma"]),
        ("imagefolder:not,there,digits", ["imagefolder:not,there", "digits"]),
        ("imagefolder:not,there", ["imagefolder:not,there"]),
        ("imagefolder:photos/,imagefolder:./photos", ["imagefolder:photos"]),
    ],
)  # fmt: skip
def test_a_comma_belongs_to_the_folder_that_has_it(given: str, expected: list[str]) -> None:
    assert Registry().resolve("datasets", (given,)) == expected


def test_every_spelling_of_a_folder_is_one_data_set(tmp_path: Path) -> None:
    registry = Registry()
    spelled = (
        "photos",
        "photos/",
        "./photos",
        "~/photos",
        str(tmp_path / "photos"),
        "photos/../photos",
    )
    names = registry.resolve("datasets", [f"imagefolder:{path}" for path in spelled])
    data = DataIdentities(registry, tmp_path)
    found = [data.of(name, seed=0) for name in names]
    assert len(data.found) == 1
    assert all(planned == data.found[0] for planned in found)


def test_a_name_without_a_folder_is_refused() -> None:
    for name in ("imagefolder:", "imagefolder:~nobody-at-all/x", f"imagefolder:{'x' * 300}"):
        with pytest.raises(UsageError, match="imagefolder:"):
            Registry().dataset(Registry().resolve("datasets", (name,))[0])
