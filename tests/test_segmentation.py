"""The mask rooms: against the oracle, against transformers' own, and both twins against each other."""

import numpy as np
import pytest
from small import NUM_CLASSES, WITH_MASKS, begin_alike, both_twins, relative, small_batch, small_state

from detr_jittor.config.options import Config
from detr_jittor.jt import criterion as jittor_criterion
from detr_jittor.jt import segmentation as jittor_segmentation
from detr_jittor.jt.layers import set_training
from detr_jittor.jt.setup.runtime import jt
from detr_jittor.jt.twin import JittorTwin
from detr_jittor.reference import losses as oracle
from detr_jittor.twin import seeding
from detr_jittor.twin.interpolation import nearest
from detr_jittor.twin.parameters import is_trained

import torch  # isort: skip  (after jittor)
from transformers.models.detr.modeling_detr import DetrMaskHeadSmallConv, DetrMHAttentionMap  # isort: skip

from detr_jittor.pt import criterion as pytorch_criterion  # isort: skip
from detr_jittor.pt import segmentation as pytorch_segmentation  # isort: skip
from detr_jittor.pt.twin import PyTorchTwin  # isort: skip

pytestmark = pytest.mark.slow

SIZES = [((2, 2), (5, 7)), ((7, 11), (25, 42)), ((13, 9), (13, 9)), ((50, 84), (100, 167)), ((21, 34), (83, 133))]


@pytest.fixture(scope="module")
def twins():
    return both_twins(WITH_MASKS)


@pytest.fixture
def pair(twins):
    return begin_alike(twins)


def float64(function, *arrays):
    return function(*(torch.tensor(a, dtype=torch.float64) for a in arrays)).numpy()


@pytest.mark.parametrize("small, large", SIZES)
def test_maps_are_resized_as_pytorch_does(small, large):
    """The places that are picked must be the same ones; products may differ in the last digit.

    Against PyTorch in float32: its coordinates are off by 1e-4 from those in float64 at place 1000.
    """
    x = np.random.default_rng(0).standard_normal((2, 3, *small)).astype(np.float32)
    features = np.zeros((2, 3, *large), np.float32)
    nearest = jittor_segmentation.enlarge(jt.array(x), jt.array(features)).numpy()
    assert np.array_equal(nearest, pytorch_segmentation.enlarge(torch.tensor(x), torch.tensor(features)).numpy())
    bilinear = jittor_segmentation.interpolate(jt.array(x[0]), *large).numpy()
    wanted = pytorch_segmentation.interpolate(torch.tensor(x[0]), *large).numpy()
    assert np.abs(bilinear - wanted).max() < 2e-6  # measured: 5e-7


def test_nearest_picks_pytorchs_places_at_all_sizes_of_a_feature_map():
    for length in range(1, 60):
        for wanted in range(length, 2 * length + 2):
            places = torch.nn.functional.interpolate(torch.arange(float(length))[None, None], size=wanted)[0, 0]
            assert np.array_equal(nearest(length, wanted), places.numpy()), (length, wanted)


def mask_loss_cases():
    random = np.random.default_rng(1)
    logits = (3 * random.standard_normal((3, 16, 24))).astype(np.float32)
    targets = np.stack([random.random((64, 96)) < share for share in (0.3, 0.0, 1.0)])
    return logits, targets


def test_mask_losses_are_the_oracles():
    """Logits upsampled by PyTorch in float64; what is checked is what follows."""
    logits, targets = mask_loss_cases()
    large = float64(lambda x: pytorch_segmentation.interpolate(x, 64, 96), logits).reshape(3, -1)
    wanted = [f(large, targets.reshape(3, -1), divisor=1) for f in (oracle.focal, oracle.dice)]
    for found in (jittor_criterion.mask_losses(jt.array(logits), jt.array(targets).float32()).numpy(),
                  pytorch_criterion.mask_losses(torch.tensor(logits), torch.tensor(targets).float()).numpy()):
        np.testing.assert_allclose(found, wanted, rtol=2e-6)  # measured: 2e-7


def test_a_gradient_that_is_computed_at_once_is_the_gradient():
    """Of focal and dice loss each, by both twins, against automatic differentiation in float64."""
    logits, targets = mask_loss_cases()
    truth = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    values = pytorch_criterion.mask_losses(truth, torch.tensor(targets).double())
    x = torch.tensor(logits, requires_grad=True)
    early = pytorch_criterion.early(pytorch_criterion.mask_losses, x, torch.tensor(targets).float())
    v = jt.array(logits)
    jittor_early = jittor_criterion.early(jittor_criterion.mask_losses, v, jt.array(targets).float32())
    for i in range(2):
        wanted = torch.autograd.grad(values[i], truth, retain_graph=True)[0].numpy()
        assert relative(torch.autograd.grad(early[i], x, retain_graph=True)[0].numpy(), wanted) < 2e-5
        assert relative(jt.grad(jittor_early[i], v, retain_graph=True).numpy(), wanted) < 2e-5
        assert early[i].item() == pytest.approx(values[i].item(), rel=2e-6)


def test_never_more_than_a_few_masks_are_at_full_size(pair, monkeypatch):
    """However many objects there are."""
    batch = small_batch(3, masks=True)
    for twin, module in zip(pair, (jittor_criterion, pytorch_criterion)):
        counts = []

        def counting(masks, h, w, interpolate=module.interpolate, counts=counts):
            counts.append(len(masks))
            return interpolate(masks, h, w)

        monkeypatch.setattr(module, "MASKS_AT_ONCE", 2)
        monkeypatch.setattr(module, "interpolate", counting)
        few = twin.evaluate(batch)[1]
        assert max(counts) == 2 and sum(counts) == sum(len(t.labels) for t in batch.targets) > 4
        monkeypatch.setattr(module, "MASKS_AT_ONCE", 100)
        together = twin.evaluate(batch)[1]
        assert all(few[name] == pytest.approx(together[name], rel=1e-6) for name in few)


def test_attention_map_and_mask_head_are_transformers_own():
    torch.manual_seed(0)
    theirs, ours = DetrMHAttentionMap(128, 8), pytorch_segmentation.MHAttentionMap(128, 8)
    theirs.load_state_dict({n.replace("linear", "proj"): v for n, v in ours.state_dict().items()})
    query, memory = torch.randn(2, 5, 128), torch.randn(2, 128, 3, 4)
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[1, :, 3] = True
    ignored = torch.zeros(2, 1, 1, 3, 4).masked_fill(mask[:, None, None], float("-inf"))
    with torch.no_grad():
        attention = ours(query, memory, mask)
        assert torch.allclose(attention, theirs(query, memory, ignored), atol=1e-7)
        assert attention[1, :, :, :, 3].max() == 0 and attention.max() > 0.02

    theirs = DetrMaskHeadSmallConv(136, [64, 32, 16], 128)
    ours = pytorch_segmentation.MaskHeadSmallConv(136, [64, 32, 16], 128)
    for p in ours.parameters():
        torch.nn.init.normal_(p, std=0.1)
    parts = {"conv1": ("lay1", "gn1"), "conv2": ("lay2", "gn2"), "output_conv": ("out_lay",)}
    parts |= {f"fpn_stages.{i}.refine": (f"lay{i + 3}", f"gn{i + 3}") for i in range(3)}
    parts |= {f"fpn_stages.{i}.fpn_adapter": (f"adapter{i + 1}",) for i in range(3)}
    own, state = ours.state_dict(), theirs.state_dict()
    for name in state:
        path, kind = name.rsplit(".", 1)
        place = next(p for p in parts if path == p or path.startswith(p + "."))
        state[name] = own[f"{parts[place][path.endswith('norm')]}.{kind}"]
    theirs.load_state_dict(state)
    x = torch.randn(2, 128, 3, 4)
    fpns = [torch.randn(2, c, h, w) for c, h, w in ((64, 6, 7), (32, 11, 14), (16, 22, 27))]
    with torch.no_grad():
        wanted = theirs(x, attention, fpns)[:, 0]
        rows = np.array([7, 0, 9])  # in any order, of both pictures
        found = ours(torch.cat([x[rows // 5], attention.flatten(0, 1)[rows]], 1), fpns, rows // 5)
    assert torch.allclose(found, wanted[rows], atol=1e-5) and wanted.std() > 0.05


def test_outputs_and_losses_agree(pair):
    """Measured: masks within 4e-6, losses within 2e-7."""
    batch = small_batch(7, masks=True)
    (outputs, losses), (wanted, wanted_losses) = (twin.evaluate(batch) for twin in pair)
    assert wanted.masks.shape == (2, 20, 16, 24)
    for name in ("logits", "boxes", "masks"):
        assert relative(getattr(outputs, name), getattr(wanted, name)) < 4e-5
        for twin, evaluated in zip(pair, (outputs, wanted)):
            assert relative(getattr(twin.predict(batch), name), getattr(evaluated, name)) < 1e-5
    assert list(losses)[-2:] == list(wanted_losses)[-2:] == ["loss_mask", "loss_dice"]
    assert all(losses[n] == pytest.approx(wanted_losses[n], rel=2e-6, abs=2e-6) for n in wanted_losses)
    assert "loss_mask_0" not in losses


def test_gradients_agree(pair):
    """Measured against PyTorch's: 4e-6 of their norm, 4e-5 in the backbone."""
    batch = small_batch(8, masks=True)
    jittor, pytorch = pair
    with torch.no_grad():
        indices = pytorch.match(pytorch.forward(batch), batch)
    set_training(jittor.model, False)
    pytorch.model.eval()
    pytorch.losses(pytorch.forward(batch), batch, indices)[2].backward()
    found = jt.grad(jittor.losses(jittor.forward(batch), batch, indices)[2], list(jittor.trained.values()))
    scale = max(p.grad.norm().item() for p in pytorch.trained.values())
    for (name, p), gradient in zip(pytorch.trained.items(), found):
        wanted = p.grad.numpy()
        limit = 2e-3 if "backbone.0" in name else 1e-4
        assert np.linalg.norm(gradient.numpy() - wanted) < limit * np.linalg.norm(wanted) + 1e-6 * scale, name
    pytorch.optimizer.adamw.zero_grad()


def test_only_the_masks_that_are_asked_for_are_made(pair):
    """And each is what it is among all: no mask depends on another query."""
    batch = small_batch(5, masks=True)
    for twin in pair:
        everything = twin.predict(batch).masks.reshape(40, 16, 24)
        rows = np.array([33, 2, 17])
        some = twin.model.masks(twin.forward(batch)[2], rows)
        some = some.numpy() if isinstance(some, jt.Var) else some.detach().numpy()
        assert relative(some, everything[rows]) < 1e-5


def test_five_steps_have_the_same_losses_and_move_everything(pair):
    """Dropout on, masks shared. Measured: losses within 3e-7."""
    before = pair[1].state().model
    logs = [[twin.train_step(small_batch(step, masks=True), seeding.step_seed(42, step), 1.0) for step in range(5)]
            for twin in pair]
    for jittor, pytorch in zip(*logs):
        assert list(jittor) == list(pytorch)
        for name in pytorch:
            tolerance = 5e-5 if name == "grad_norm" else 1e-5
            assert jittor[name] == pytest.approx(pytorch[name], rel=tolerance, abs=1e-5), name
    for twin in pair:
        after = twin.state().model
        assert {n for n in after if not np.array_equal(after[n], before[n])} == set(twin.trained)
    assert {"bbox_attention.q_linear.weight", "mask_head.adapter3.bias", "mask_head.gn5.weight"} <= set(twin.trained)


def test_a_batch_without_objects(pair):
    """No mask loss, and a gradient of zero for the mask head in both twins, not a missing one."""
    batch = small_batch(4, masks=True)
    for target in batch.targets:
        target.labels, target.boxes, target.masks = target.labels[:0], target.boxes[:0], target.masks[:0]
    states = []
    for twin in pair:
        losses = twin.train_step(batch, 0, 1.0)
        assert losses["loss_mask"] == losses["loss_dice"] == losses["loss_bbox"] == 0 < losses["loss_ce"]
        assert np.isfinite(losses["grad_norm"])
        states.append(twin.state().model)
    for name in states[0]:
        np.testing.assert_allclose(states[0][name], states[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_frozen_weights_train_the_mask_head_alone():
    """In training mode dropout stays on in the frozen detector, as in the reference code."""
    config = WITH_MASKS.replace(frozen_weights="detector.pth")
    for cls in (JittorTwin, PyTorchTwin):
        twin = cls(config, NUM_CLASSES)
        twin.load(small_state(twin))
        assert twin.n_parameters == sum(v.size for n, v in twin.state().model.items() if not n.startswith("detr."))
        before = twin.state().model
        twin.train_step(small_batch(1, masks=True), 1, 1.0)
        after = twin.state().model
        moved = {n for n in after if not np.array_equal(after[n], before[n])}
        assert moved == {n for n in after if n.startswith(("bbox_attention.", "mask_head."))}


@pytest.mark.parametrize("module", [jittor_segmentation, pytorch_segmentation], ids=["jittor", "pytorch"])
def test_published_parameter_counts(module):
    """R50 panoptic; batch norm's tensors are buffers, not parameters."""
    config = Config().replace(backbone_norm="frozen", masks=True)
    sizes = {n: int(np.prod(v.shape)) for n, v in module.DETRsegm(config.model, 250).state_dict().items()}
    assert sum(s for n, s in sizes.items() if n.startswith("mask_head.")) == 1_202_073
    assert sum(s for n, s in sizes.items() if n.startswith("bbox_attention.")) == 131_584
    everything = config.replace(backbone_norm="batch")
    norms = sum(s for n, s in sizes.items() if ".bn" in n or "downsample.1" in n)
    trained_norms = sum(s for n, s in sizes.items() if is_trained(n, everything) and (".bn" in n or "sample.1" in n))
    assert trained_norms == norms / 2
    assert sum(s for n, s in sizes.items() if is_trained(n, everything)) - trained_norms == 42_899_288
