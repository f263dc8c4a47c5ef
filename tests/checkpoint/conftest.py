import pytest
from checkpoint_samples import sample

from detr_jittor.checkpoint.layout import Checkpoint


@pytest.fixture
def checkpoint() -> Checkpoint:
    return sample()
