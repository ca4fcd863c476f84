"""The studies of this repository: every file is valid, and its last run works on a small release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baselines.studies.command import run
from baselines.studies.study import STUDIES, Study

pytestmark = pytest.mark.slow

NAMES = sorted(path.stem for path in STUDIES.glob("*.toml"))
# The small release has neither dated imagery (for the studies of time series, see tests/baselines/series), nor EuroSAT
# patches, nor the short-wave bands of Sentinel-2 that the encoder of clouds has seen.
SEASONAL = [
    name
    for name in NAMES
    if name not in ("transfer", "band-sets", "cloud-encoder") and Study.load(name).jobs()[0].config().data.spatial
]


@pytest.mark.parametrize("name", NAMES)
def test_all_configs_of_a_study_are_valid(name: str) -> None:
    study = Study.load(name)
    jobs = study.jobs()
    assert len({job.name for job in jobs}) == len(jobs)
    for job in jobs:
        assert job.config().seed == job.seed
        assert job.predictions()
    # A training may serve several runs, whose predictions differ.
    made = [(job.config().name, p.predict) for job in jobs for p in job.predictions().values()]
    assert len({str(one) for one in made}) == len(made), "two runs are the same"
    assert study.comparisons
    assert study.figures


@pytest.mark.parametrize("name", SEASONAL)
def test_the_last_run_of_a_study_works_in_a_rehearsal(name: str, release_root: Path, tmp_path: Path) -> None:
    job = Study.load(name).jobs()[-1]
    run(name, tmp_path, release_root, rehearse=True, only=(job.run,))
    content = json.loads((tmp_path / f"{name}-rehearsal" / "study.json").read_text())
    assert [done["run"] for done in content["runs"]] == [job.run], content["unfinished"]


def test_the_study_of_transfer_works_in_a_rehearsal(eurosat_root: Path, tmp_path: Path) -> None:
    run("transfer", tmp_path, eurosat_root, rehearse=True, only=("untrained.random",))
    content = json.loads((tmp_path / "transfer-rehearsal" / "study.json").read_text())
    assert [done["run"] for done in content["runs"]] == ["untrained.random"], content["unfinished"]
