"""The Jittor twin: what the engine sees of this folder."""

from functools import partial

import numpy as np

from detr_jittor.attention import attention_of
from detr_jittor.config import Config
from detr_jittor.jt import backbone, kernels, transformer
from detr_jittor.jt.criterion import Criterion
from detr_jittor.jt.detr import DETR
from detr_jittor.jt.dropout import seed_dropout
from detr_jittor.jt.layers import set_training
from detr_jittor.jt.optim import Optimizer
from detr_jittor.jt.runtime import jt
from detr_jittor.jt.segmentation import DETRsegm
from detr_jittor.parameters import initial_values, is_trained
from detr_jittor.recorder import listening
from detr_jittor.statedict import check_state
from detr_jittor.types import Attention, Batch, Outputs, State

QUERIES_AT_ONCE = 20  # queries whose masks are made together in evaluation: memory

class JittorTwin:
    name = "jittor"
    checkpoint_suffix = ".pkl"

    def __init__(self, config: Config, num_classes: int):
        self.config = config
        self.device = choose_device(config.run.device)
        self.kernels = kernels.use(config.run.plain, config.run.precision == "bf16")
        self.model = (DETRsegm if config.model.masks else DETR)(config.model, num_classes)
        self.criterion = Criterion(config.loss, num_classes)
        weights = self.model.state_dict()
        self.trained = {n: p for n, p in weights.items() if is_trained(n, config)}
        for name, weight in weights.items():
            if name not in self.trained:
                weight.stop_grad()
        self.n_parameters = sum(p.numel() for p in self.trained.values())
        self.optimizer = Optimizer(self.trained, config.optim)
        shapes = {n: tuple(v.shape) for n, v in weights.items()}
        self.load(State(initial_values(shapes, config.run.seed), {}))

    def train_step(self, batch: Batch, seed: int, lr_factor: float) -> dict[str, float]:
        """See `twin.Twin.train_step`."""
        set_training(self.model, True)
        seed_dropout(self.model, seed)
        names, values, loss, _ = self.losses(batch)
        log = self.log(names, values, loss)
        norm = self.optimizer.step(loss, lr_factor) if np.isfinite(log["loss"]) else float("nan")
        return {**log, "grad_norm": norm}

    def forward(self, batch: Batch):
        """logits [L, B, Q, C + 1] and boxes [L, B, Q, 4] of every decoder layer, and what masks are made of, if any"""
        return self.model(jt.array(batch.images), jt.array(batch.mask))

    def losses(self, batch: Batch, indices=None):
        """(names, values, weighted sum, outputs) of one batch, with gradients"""
        logits, boxes, *seen = self.forward(batch)
        first = -1 if self.config.loss.no_aux_loss else 0
        masks_of = partial(self.model.masks, *seen) if seen else None
        names, values, _ = self.criterion(logits[first:], boxes[first:], batch.targets, indices, masks_of)
        weights = jt.array(self.criterion.weights(names))
        return names, values, (values * weights).sum(), (logits, boxes, *seen)

    def log(self, names, values, loss) -> dict[str, float]:
        fetched = jt.concat([loss.reshape(1), values]).numpy().tolist()  # one fetch a step
        return dict(zip(["loss", *names], fetched))

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
        calls, paddings = [], []
        with (listening(transformer, "attention", lambda _, q, k, *rest: calls.append((q, k))),
              listening(backbone, "shrink_mask", lambda mask, *rest: paddings.append(mask))):
            outputs = self.predict(batch)
        pairs = [(q.numpy(), k.numpy()) for q, k in calls]
        return outputs, attention_of(pairs, paddings[0].numpy(), self.config.model)

    def outputs(self, logits, boxes, *seen) -> Outputs:
        """What leaves the twin: the last decoder layer's, and the masks of all queries."""
        masks = self.masks(*seen, *logits.shape[1:3]) if seen else None
        return Outputs(logits[-1].numpy(), boxes[-1].numpy(), masks)

    def masks(self, seen, b: int, q: int) -> np.ndarray:
        """[B, Q, H / 4, W / 4] the mask logits of all queries, made a few at a time"""
        groups = np.array_split(np.arange(b * q), -(-b * q // QUERIES_AT_ONCE))
        masks = np.concatenate([self.model.masks(seen, rows).numpy() for rows in groups])
        return masks.reshape(b, q, *masks.shape[1:])

    def state(self) -> State:
        """See `twin.Twin.state`."""
        moments, steps = self.optimizer.state()
        return State({n: v.numpy() for n, v in self.model.state_dict().items()}, moments, steps)

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
        jt.sync_all()


def choose_device(wanted: str) -> str:
    """auto: the GPU if there is one. `cuda` without a GPU is answered by the command line."""
    jt.flags.use_cuda = int(wanted != "cpu" and bool(jt.has_cuda))
    return "cuda" if jt.flags.use_cuda else "cpu"
