"""The PyTorch twin: what the engine sees of this folder."""

from functools import partial

import numpy as np
import torch

from detr_jittor.config.options import Config
from detr_jittor.pt import backbone, box_decoder, transformer
from detr_jittor.pt.average import Average
from detr_jittor.pt.box_criterion import criterion_of
from detr_jittor.pt.box_detr import BoxDETR
from detr_jittor.pt.detr import DETR
from detr_jittor.pt.dropout import seed_dropout
from detr_jittor.pt.optim import Optimizer
from detr_jittor.pt.processes import join
from detr_jittor.pt.segmentation import DETRsegm
from detr_jittor.twin import threads
from detr_jittor.twin.attention import attention_of
from detr_jittor.twin.base import BaseTwin
from detr_jittor.twin.denoising import Noisy
from detr_jittor.twin.loss_terms import weights_of
from detr_jittor.twin.parameters import NORM_BUFFERS, initial_values, is_averaged, is_trained
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.twin.recorder import listening
from detr_jittor.twin.statedict import check_state
from detr_jittor.types import Attention, Batch, Outputs, State


class PyTorchTwin(BaseTwin):
    name = "pytorch"
    checkpoint_suffix = ".pth"
    kernels = "PyTorch's own"

    join = staticmethod(join)
    no_grad = staticmethod(torch.no_grad)
    numpy = staticmethod(lambda x: x.detach().cpu().numpy())

    def __init__(self, config: Config, num_classes: int, processes: Processes = ALONE):
        self.config = config
        self.processes = processes
        self.device = choose_device(config.run.device)
        self.bfloat16 = config.run.precision == "bf16"
        threads.use(config.run.threads, torch.set_num_threads)
        torch.manual_seed(config.run.seed)
        kind = BoxDETR if config.model.decoder == "box" else DETRsegm if config.model.masks else DETR
        self.model = kind(config.model, num_classes).to(self.device)
        self.criterion = criterion_of(config.model, config.loss, num_classes)
        self.trained = {n: p for n, p in self.model.named_parameters() if is_trained(n, config)}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.trained)
        self.n_parameters = sum(p.numel() for p in self.trained.values())
        self.optimizer = Optimizer(self.trained, config.optim, processes)
        self.average = Average(
            {n: v for n, v in self.model.state_dict().items() if is_averaged(n, config)}) if config.optim.ema else None
        shapes = {n: tuple(v.shape) for n, v in self.model.state_dict().items()}
        self.load(State(initial_values(shapes, config.run.seed), {}))

    def prepare(self, seed: int | None) -> None:
        """Training mode for the step with this seed; None: evaluation mode."""
        self.model.train(seed is not None)
        if seed is not None:
            torch.manual_seed(seed)

    def seed_dropout(self, key: int) -> None:
        """The key from which the next dropout masks are made."""
        seed_dropout(self.model, key if self.config.run.dropout_masks == "shared" else None)

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Give all processes the same running statistics of a trained batch norm: the mean of theirs."""
        if self.processes.size > 1 and self.config.model.backbone_norm == "batch":
            own = [v for n, v in self.model.state_dict().items() if n.endswith(NORM_BUFFERS)]
            for statistic, mean in zip(own, self.processes.average(own)):
                statistic.copy_(mean)

    def forward(self, batch: Batch, *noisy: Noisy):
        """logits [L, B, Q, C + 1] and boxes [L, B, Q, 4] of every decoder layer, and what masks are made of or the
        proposals, if any

        Args: noisy: copies that stand behind the queries.
        """
        dtype = next(self.model.parameters()).dtype
        images = torch.as_tensor(batch.images, dtype=dtype, device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits, boxes, *seen = self.model(images, torch.as_tensor(batch.mask, device=self.device), *noisy)
        return logits.to(dtype), boxes.to(dtype), *seen

    def losses(self, outputs, batch: Batch, indices: list, rest=(), processes: Processes = ALONE, noisy=()):
        """(names, values, weighted sum) of one batch, with gradients; rest, processes as the criterion's"""
        logits, boxes, *seen = outputs
        model = self.config.model
        masks_of = partial(self.model.masks, *seen) if model.masks else None
        proposed = {"proposed": seen[0]} if model.two_stage else {}
        names, values, _ = self.criterion(logits[self.first_layer:], boxes[self.first_layer:], batch.targets, indices,
                                          masks_of, rest, processes, *noisy, **proposed)
        weights = torch.as_tensor(weights_of(self.config, names), dtype=values.dtype, device=self.device)
        return names, values, (values * weights).sum()

    def log(self, names, values, loss) -> dict[str, float]:
        return {"loss": loss.item(), **dict(zip(names, values.tolist()))}

    def attend(self, batch: Batch) -> tuple[Outputs, Attention]:
        """See `contract.Twin.attend`."""
        calls, sampled, paddings = [], [], []
        with (listening(transformer, "attention", lambda _, q, k, *rest: calls.append((q, k))),
              listening(box_decoder, "sampled_attention", lambda _, *inputs: sampled.append(inputs[:5])),
              listening(backbone, "shrink_mask", lambda mask, *rest: paddings.append(mask))):
            outputs = self.predict(batch)
        pairs, padding = [(q.cpu().numpy(), k.cpu().numpy()) for q, k in calls], paddings[0].cpu().numpy()
        samples = []
        for content, place, maps, boxes, extent in sampled[-1:]:
            samples = [x.cpu().numpy() for x in (content, place, boxes, extent, *maps)]
        return outputs, attention_of(pairs, padding, self.config.model, samples)

    def weights(self) -> dict[str, np.ndarray]:
        """See `contract.Twin.weights`."""
        return {n: v.cpu().numpy().copy() for n, v in self.model.state_dict().items()}

    def state(self) -> State:
        """See `contract.Twin.state`."""
        moments, steps = self.optimizer.state()
        average = self.average.state() if self.average else {}
        return State(self.weights(), moments, steps, average)

    def load(self, state: State) -> None:
        """See `contract.Twin.load`."""
        own = self.model.state_dict()
        check_state(state, {n: tuple(v.shape) for n, v in own.items()}, set(self.trained))
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(torch.as_tensor(np.asarray(state.model[name])))
        self.optimizer.load(state.optimizer, state.steps)
        if self.average:
            self.average.load(state.averaged)

    def to_float64(self) -> "PyTorchTwin":
        """Compute in float64 from here on: the truth that both twins are measured against."""
        torch.set_default_dtype(torch.float64)
        self.model.double()
        return self


def choose_device(wanted: str) -> torch.device:
    """auto: the GPU if there is one. `cuda` without a GPU is answered by the command line."""
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
