import pytest
from made_runs import write_run

from detr_jittor.compare.protocol import paired, read_run


@pytest.fixture
def pairs(tmp_path):
    """Three seeds of both twins."""
    jittor = ((42, 0.30), (43, 0.36), (44, 0.33))
    pytorch = ((42, 0.32), (43, 0.33), (44, 0.37))
    folders = [write_run(tmp_path / "made", framework, seed, aps=(0.1, ap + 0.02, ap))
               for framework, seeds in (("jittor", jittor), ("pytorch", pytorch)) for seed, ap in seeds]
    return paired([read_run(folder) for folder in folders])
