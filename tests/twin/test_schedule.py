import pytest
import torch

from detr_jittor.config.options import OptimConfig
from detr_jittor.twin.schedule import average_decay, lr_factor


@pytest.mark.parametrize("lr_drop", [1, 3, 200])
def test_as_steplr(lr_drop):
    """torch's StepLR as the reference code steps it, once an epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, lr_drop)
    for epoch in range(10):
        factor = lr_factor(OptimConfig(lr_drop=lr_drop), epoch, step=epoch * 7)
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_warm_up_rises_over_the_run_and_multiplies_the_drops():
    optim = OptimConfig(lr_drop=2, warmup_steps=4)
    assert [lr_factor(optim, 0, step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert lr_factor(optim, 2, 1) == pytest.approx(0.05)
    assert lr_factor(OptimConfig(warmup_steps=0), 0, 0) == 1


def test_cosine_falls_to_nothing_over_all_epochs():
    optim = OptimConfig(lr_schedule="cosine", epochs=4, lr_drop=1)
    factors = [lr_factor(optim, epoch, 0, share) for epoch, share in ((0, 0), (1, 0), (2, 0), (2, 0.5), (4, 0), (5, 0))]
    assert factors == pytest.approx([1, 0.853553, 0.5, 0.308658, 0, 0], abs=1e-6)
    assert lr_factor(OptimConfig(lr_schedule="cosine", epochs=4, warmup_steps=10), 2, 4) == pytest.approx(0.25)


def test_averages_look_back_farther_as_the_run_goes_on():
    assert [average_decay(n) for n in (1, 90, 10**6)] == pytest.approx([2 / 11, 0.91, 0.999])
