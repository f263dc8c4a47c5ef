"""The alignment of a model with masks: it passes, and each fault in the mask rooms is found by the stage that must."""

import pytest

from detr_jittor.align.faults import fault
from detr_jittor.align.run import run_stages
from detr_jittor.align.stages.structure import published_count
from detr_jittor.align.trial import JITTOR, AlignPlan, Trial
from detr_jittor.config.options import Config
from detr_jittor.data.demo import write_demo_set

pytestmark = pytest.mark.slow

STAGES = ["structure", "forward", "losses", "gradients", "training", "detections"]
FAULTS = (
    fault("a softmax for each head alone", "forward", "jt/segmentation.py",
          "nn.softmax(scores.transpose(0, 2, 1, 3).flatten(2), -1)", "nn.softmax(scores.transpose(0, 2, 1, 3), -1)"),
    fault("maps enlarged by the other rounding", "forward", "jt/segmentation.py",
          "nearest(x.shape[axis], features.shape[axis])",
          "np.minimum(np.arange(features.shape[axis]) * x.shape[axis] // features.shape[axis] + 1, x.shape[axis] - 1)"),
    fault("dice loss without the one that is added", "losses", "jt/criterion.py", "+ 1) / (", ") / ("),
    fault("masks of other objects", "losses", "jt/criterion.py",
          "[wanted[i] for i in matched[some]]", "[wanted[i] for i in matched[some][::-1]]"),
    fault("the attention map cut off from the gradient", "gradients", "jt/segmentation.py",
          "attention = self.bbox_attention(hs[-1], memory, mask)",
          "attention = self.bbox_attention(hs[-1], memory, mask).detach()"),
)


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo_set(folder, train=8, val=8, size=128)
    config = Config().replace(
        backbone="resnet18", backbone_norm="frozen", enc_layers=1, dec_layers=2, hidden_dim=128, nheads=8,
        dim_feedforward=64, num_queries=10, num_classes=5, masks=True, coco_path=str(folder), min_size=64, max_size=96)
    # In four steps PyTorch can stay near float64 by chance: the verdict must not hang on that
    trial = Trial(config, None, AlignPlan(steps=4, detection_images=4, keep_all=True))
    yield trial
    trial.close()


@pytest.fixture(scope="module")
def stages(trial):
    return {stage.name: stage for stage in run_stages(trial, STAGES)}


@pytest.mark.parametrize("name", STAGES)
def test_a_sound_twin_passes(stages, name):
    assert stages[name].passed, stages[name].worst


def test_the_mask_rooms_are_compared(stages):
    names = {name: {item.name for item in stages[name].items} for name in stages}
    assert {"bbox_attention", "mask_head", "mask_head.lay1", "mask_head.gn5", "mask_head.adapter3", "masks",
            "masks without recording", "transformer[1]", "backbone.1"} <= names["forward"]
    assert {"loss_mask", "loss_dice"} <= names["losses"]
    assert {"mask_head.out_lay.weight", "bbox_attention.k_linear.weight"} <= names["gradients"]
    assert "masks" in names["detections"]


@pytest.mark.parametrize("planted", FAULTS, ids=[f.name for f in FAULTS])
def test_a_fault_is_found(trial, stages, planted):
    trial.start(JITTOR, planted)
    stage = run_stages(trial, STAGES, stop_at_failure=True)[-1]
    assert (stage.name, stage.passed) == (planted.stage, False), stage.worst


@pytest.mark.parametrize("options, count", [
    ({"num_classes": 250}, 42_899_288 - 222_400), ({"num_classes": 250, "frozen_weights": "x.pth"}, 1_333_657)])
def test_the_published_count_of_the_panoptic_model(options, count):
    """Trainable: without the frozen first stages (222,400)."""
    config = Config().replace(backbone_norm="frozen", masks=True, **options)
    assert published_count(config) == count
