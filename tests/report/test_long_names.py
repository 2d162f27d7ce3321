"""Names of any length and kind get report files that every file system takes."""

from pathlib import Path

import pytest
from made_up_results import SHIPPED, Maker

from bench.report.summary import shortened
from bench.report.write import write_report


def test_a_long_name_is_shortened_with_a_hash_of_the_whole() -> None:
    assert shortened("fc-20-20_mnist-5k_smoke") == "fc-20-20_mnist-5k_smoke"
    one, other = shortened("n" * 300 + "1"), shortened("n" * 300 + "2")
    assert len(one) == len(other) == 100
    assert one != other


@pytest.mark.parametrize("letters", [110, 200])
def test_a_report_of_long_paths_is_written(tmp_path: Path, letters: int) -> None:
    maker = Maker(tmp_path / "results")
    for seed in range(2):
        place = {"model": "m" * letters + ".py:build", "dataset": "imagefolder:" + "d" * letters}
        maker.trial(98.0, seed=seed, **place)
        maker.trial(97.0, seed=seed, method="magnitude", target=2.0, **place)
    formats = ("csv", "md", "tex", "svg", "html")
    done = write_report([maker.results], tmp_path / "out", SHIPPED, formats)
    assert all(file.is_file() for file in done.files)
    assert max(len(file.name) for file in done.files) < 143
    assert "m" * letters in done.text
