"""The Jittor twin: what the engine sees of this folder."""

from contextlib import contextmanager
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
from detr_jittor.twin import seeding
from detr_jittor.twin.attention import attention_of
from detr_jittor.twin.denoising import Noisy, noisy_copies
from detr_jittor.twin.parameters import NORM_BUFFERS, initial_values, is_averaged, is_trained
from detr_jittor.twin.parts import added, parts
from detr_jittor.twin.processes import ALONE, Processes
from detr_jittor.twin.recorder import listening
from detr_jittor.twin.schedule import average_decay
from detr_jittor.twin.statedict import check_state
from detr_jittor.types import Attention, Batch, Outputs, State

QUERIES_AT_ONCE = 20  # queries whose masks are made together in evaluation: memory


class JittorTwin:
    name = "jittor"
    checkpoint_suffix = ".pkl"

    join = staticmethod(join)

    def __init__(self, config: Config, num_classes: int, processes: Processes = ALONE):
        self.config = config
        self.processes = processes
        self.device = choose_device(config.run.device)
        self.kernels = kernels.use(config.run.plain, config.run.precision == "bf16")
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

    def train_step(self, batch: Batch, seed: int, lr_factor: float) -> dict[str, float]:
        """See `twin.Twin.train_step`."""
        set_training(self.model, True)
        self.optimizer.forget()  # what a step that failed has left
        optim, logs = self.config.optim, []
        for part, rest, key in parts(batch, optim.batch_size if optim.accumulate > 1 else len(batch), seed):
            seed_dropout(self.model, key)
            names, values, loss, _ = self.losses(part, rest=rest, processes=self.processes, noisy=self.copies(part))
            logs.append(self.processes.mean_of(self.log(names, values, loss)))
            if not np.isfinite(logs[-1]["loss"]):
                return {**logs[-1], "grad_norm": float("nan")}
            self.optimizer.add(loss)
        norm = self.optimizer.step(lr_factor)
        self.average_statistics()
        if self.average and np.isfinite(norm):
            self.average.update(average_decay(self.optimizer.steps))
        return {**added(logs), "grad_norm": norm}

    def average_statistics(self) -> None:
        """Give all processes the same running statistics of a trained batch norm: the mean of theirs."""
        if self.processes.size > 1 and self.config.model.backbone_norm == "batch":
            own = [v for n, v in self.model.state_dict().items() if n.endswith(NORM_BUFFERS)]
            for statistic, mean in zip(own, self.processes.average(own)):
                statistic.update(mean.detach()).stop_grad()

    def copies(self, batch: Batch) -> Noisy | None:
        """The noisy copies of a batch's objects in the step that comes next, the same in all processes; None: none"""
        model = self.config.model
        if model.decoder == "detr" or not model.denoising:
            return None
        seed = seeding.step_seed(self.config.run.seed, self.optimizer.steps)
        return noisy_copies(batch.targets, model.denoising, self.criterion.num_classes, seed)

    def forward(self, batch: Batch, *noisy: Noisy):
        """logits [L, B, Q, C + 1] and boxes [L, B, Q, 4] of every decoder layer, and what masks are made of, if any

        Args: noisy: copies that stand behind the queries.
        """
        return self.model(jt.array(batch.images), jt.array(batch.mask), *noisy)

    def losses(self, batch: Batch, indices=None, rest=(), processes: Processes = ALONE, noisy: Noisy | None = None):
        """(names, values, weighted sum, outputs) of one batch, with gradients; the others as the criterion's"""
        copies = [] if noisy is None else [noisy]
        logits, boxes, *seen = self.forward(batch, *copies)
        first = -1 if self.config.loss.no_aux_loss else 0
        masks_of = partial(self.model.masks, *seen) if seen else None
        names, values, _ = self.criterion(logits[first:], boxes[first:], batch.targets, indices, masks_of, rest,
                                          processes, *copies)
        weights = jt.array(self.criterion.weights(names))
        return names, values, (values * weights).sum(), (logits, boxes, *seen)

    def log(self, names, values, loss) -> dict[str, float]:
        fetched = jt.concat([loss.reshape(1), values]).numpy().tolist()  # one fetch a step
        return dict(zip(["loss", *names], fetched))

    @contextmanager
    def averaged(self):
        """See `twin.Twin.averaged`."""
        if not self.average:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def evaluate(self, batch: Batch) -> tuple[Outputs, dict[str, float]]:
        """See `twin.Twin.evaluate`."""
        set_training(self.model, False)
        with jt.no_grad():
            names, values, loss, outputs = self.losses(batch)
            return self.outputs(*outputs), self.log(names, values, loss)

    def predict(self, batch: Batch) -> Outputs:
        """See `twin.Twin.predict`."""
        set_training(self.model, False)
        with jt.no_grad():
            return self.outputs(*self.forward(batch))

    def attend(self, batch: Batch) -> tuple[Outputs, Attention]:
        """See `twin.Twin.attend`."""
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

    def outputs(self, logits, boxes, *seen) -> Outputs:
        """What leaves the twin: the last decoder layer's, and the masks of all queries."""
        masks = self.masks(*seen, *logits.shape[1:3]) if seen else None
        return Outputs(logits[-1].numpy(), boxes[-1].numpy(), masks, self.config.model.has_focal)

    def masks(self, seen, b: int, q: int) -> np.ndarray:
        """[B, Q, H / 4, W / 4] the mask logits of all queries, made a few at a time"""
        groups = np.array_split(np.arange(b * q), -(-b * q // QUERIES_AT_ONCE))
        masks = np.concatenate([self.model.masks(seen, rows).numpy() for rows in groups])
        return masks.reshape(b, q, *masks.shape[1:])

    def state(self) -> State:
        """See `twin.Twin.state`."""
        moments, steps = self.optimizer.state()
        average = self.average.state() if self.average else {}
        return State({n: v.numpy() for n, v in self.model.state_dict().items()}, moments, steps,
                     average)

    def load(self, state: State) -> None:
        """See `twin.Twin.load`."""
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
