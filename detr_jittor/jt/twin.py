"""The Jittor twin: what the engine sees of this folder."""

from functools import partial

import numpy as np

from detr_jittor.config.options import Config
from detr_jittor.jt import backbone, box_decoder, kernels, transformer
from detr_jittor.jt.average import Average
from detr_jittor.jt.box_criterion import criterion_of
from detr_jittor.jt.box_detr import BoxDETR
from detr_jittor.jt.detr import DETR
from detr_jittor.jt.dropout import seed_dropout
from detr_jittor.jt.layers import set_training
from detr_jittor.jt.optim import Optimizer
from detr_jittor.jt.processes import join
from detr_jittor.jt.segmentation import DETRsegm
from detr_jittor.jt.setup.runtime import jt
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


class JittorTwin(BaseTwin):
    name = "jittor"
    checkpoint_suffix = ".pkl"

    join = staticmethod(join)
    no_grad = staticmethod(jt.no_grad)
    numpy = staticmethod(lambda x: x.numpy())

    def __init__(self, config: Config, num_classes: int, processes: Processes = ALONE):
        self.config = config
        self.processes = processes
        self.device = choose_device(config.run.device)
        threads.use(config.run.threads)
        self.choice = kernels.Kernels(config.run.plain, config.run.precision == "bf16")
        self.kernels = self.choice.words
        kind = BoxDETR if config.model.decoder == "box" else DETRsegm if config.model.masks else DETR
        self.model = kind(config.model, num_classes)
        self.criterion = criterion_of(config.model, config.loss, num_classes)
        weights = self.model.state_dict()
        self.trained = {n: p for n, p in weights.items() if is_trained(n, config)}
        for name, weight in weights.items():
            if name not in self.trained:
                weight.stop_grad()
        self.n_parameters = sum(p.numel() for p in self.trained.values())
        self.optimizer = Optimizer(self.trained, config.optim, processes)
        self.average = Average(
            {n: v for n, v in weights.items() if is_averaged(n, config)}) if config.optim.ema else None
        shapes = {n: tuple(v.shape) for n, v in weights.items()}
        self.load(State(initial_values(shapes, config.run.seed), {}))

    def prepare(self, seed: int | None) -> None:
        """Training mode for the step with this seed; None: evaluation mode."""
        self.choice.serve()
        set_training(self.model, seed is not None)

    def seed_dropout(self, key: int) -> None:
        """The key from which the next dropout masks are made."""
        seed_dropout(self.model, key)

    def average_statistics(self) -> None:
        """Give all processes the same running statistics of a trained batch norm: the mean of theirs."""
        if self.processes.size > 1 and self.config.model.backbone_norm == "batch":
            own = [v for n, v in self.model.state_dict().items() if n.endswith(NORM_BUFFERS)]
            for statistic, mean in zip(own, self.processes.average(own)):
                statistic.update(mean.detach()).stop_grad()

    def forward(self, batch: Batch, *noisy: Noisy):
        """logits [L, B, Q, C + 1] and boxes [L, B, Q, 4] of every decoder layer, and what masks are made of or the
        proposals, if any

        Args: noisy: copies that stand behind the queries.
        """
        return self.model(jt.array(batch.images), jt.array(batch.mask), *noisy)

    def losses(self, outputs, batch: Batch, indices: list, rest=(), processes: Processes = ALONE, noisy=()):
        """(names, values, weighted sum) of one batch, with gradients; rest, processes as the criterion's"""
        logits, boxes, *seen = outputs
        model = self.config.model
        masks_of = partial(self.model.masks, *seen) if model.masks else None
        proposed = {"proposed": seen[0]} if model.two_stage else {}
        names, values, _ = self.criterion(logits[self.first_layer:], boxes[self.first_layer:], batch.targets, indices,
                                          masks_of, rest, processes, *noisy, **proposed)
        weights = jt.array(weights_of(self.config, names))
        return names, values, (values * weights).sum()

    def log(self, names, values, loss) -> dict[str, float]:
        fetched = jt.concat([loss.reshape(1), values]).numpy().tolist()  # one fetch a step
        return dict(zip(["loss", *names], fetched))

    def attend(self, batch: Batch) -> tuple[Outputs, Attention]:
        """See `contract.Twin.attend`."""
        calls, sampled, paddings = [], [], []
        with (listening(transformer, "attention", lambda _, q, k, *rest: calls.append((q, k))),
              listening(box_decoder, "sampled_attention", lambda _, *inputs: sampled.append(inputs[:5])),
              listening(backbone, "shrink_mask", lambda mask, *rest: paddings.append(mask))):
            outputs = self.predict(batch)
        pairs, padding = [(q.numpy(), k.numpy()) for q, k in calls], paddings[0].numpy()
        samples = []
        for content, place, maps, boxes, extent in sampled[-1:]:
            samples = [x.numpy() for x in (content, place, boxes, extent, *maps)]
        return outputs, attention_of(pairs, padding, self.config.model, samples)

    def weights(self) -> dict[str, np.ndarray]:
        """See `contract.Twin.weights`."""
        return {n: v.numpy() for n, v in self.model.state_dict().items()}

    def state(self) -> State:
        """See `contract.Twin.state`."""
        moments, steps = self.optimizer.state()
        average = self.average.state() if self.average else {}
        return State(self.weights(), moments, steps, average)

    def load(self, state: State) -> None:
        """See `contract.Twin.load`."""
        own = self.model.state_dict()
        check_state(state, {n: tuple(v.shape) for n, v in own.items()}, set(self.trained))
        for name, var in own.items():
            # TRAP(jittor): checkpoint-aliases. A Var that is handed over may bring its stop_grad along: so NumPy
            var.update(jt.array(np.array(state.model[name], np.float32)))
            if name not in self.trained:
                var.stop_grad()
        self.optimizer.load(state.optimizer, state.steps)
        if self.average:
            self.average.load(state.averaged)
        jt.sync_all()


def choose_device(wanted: str) -> str:
    """auto: the GPU if there is one. `cuda` without a GPU is answered by the command line."""
    jt.flags.use_cuda = int(wanted != "cpu" and bool(jt.has_cuda))
    return "cuda" if jt.flags.use_cuda else "cpu"
