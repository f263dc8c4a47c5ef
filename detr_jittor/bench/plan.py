"""What is measured, and how often."""

from dataclasses import dataclass, replace

Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class BenchPlan:
    sizes: tuple[Size, ...] = ((480, 640), (800, 1066))  # of inference; the first also of training
    inference_batches: tuple[int, ...] = (1, 4)
    training_batches: tuple[int, ...] = (2, 4)
    settings: tuple[str, ...] = ("channels-last", "compile", "bf16")  # of PyTorch, besides eager
    engines: tuple[str, ...] = ("onnxruntime", "openvino", "openvino bf16")
    rounds: int = 5  # how often each is timed
    inference_rounds: int = 10  # the same for inference of one picture, which is shorter
    varying: int = 10  # batches of sizes that were not seen before
    demo_rounds: int = 20
    busy_rounds: int = 5  # the same beside a busy process, and with too many threads
    starts: int = 3  # processes of each twin until the first step
    without_operators: bool = True  # also with Jittor's operators not yet compiled
    stages: bool = True
    kernel_rounds: int = 5  # how often each kernel is timed by itself; 0: not at all
    kernel_repeat: int = 20  # calls of a kernel in one of these
    run_rounds: int = 2  # training runs of each twin on real pictures; 0: none
    run_pictures: int = 16
    demo_runs: bool = True  # begin the demo's training, to tell how long all of it takes
    seconds: float | None = None  # stop measuring after that
    left_out: str = ""  # what the plan does without, in words

    def without_bfloat16(self) -> "BenchPlan":
        """For a processor that has none, where it would take ten times as long and say nothing."""
        return replace(self, settings=tuple(s for s in self.settings if s != "bf16"),
                       engines=tuple(e for e in self.engines if "bf16" not in e),
                       left_out=", ".join(filter(None, [self.left_out, "bf16, which this processor lacks"])))


FULL = BenchPlan()
# About five minutes on two cores of 2021; `seconds` is for a machine half as fast.
QUICK = BenchPlan(inference_batches=(1,), training_batches=(2,), settings=("bf16",), rounds=2, inference_rounds=3,
             varying=2, demo_rounds=5, busy_rounds=2, starts=1, without_operators=False, stages=False, kernel_rounds=0,
             run_rounds=0, demo_runs=False, seconds=660,
             left_out="torch.compile, channels-last in float32, batch 4, the parts of a step, single kernels, the "
                      "start with operators not yet compiled, an epoch and an evaluation of real pictures, the demo's "
                      "whole run")

# Sizes of two pictures that share a batch, none of them the fixed size.
VARYING: tuple[tuple[Size, Size], ...] = (
    ((480, 600), (512, 560)), ((544, 720), (480, 640)), ((600, 450), (640, 480)), ((416, 624), (448, 560)),
    ((512, 512), (576, 430)), ((500, 700), (480, 520)), ((640, 427), (608, 456)), ((464, 616), (400, 640)),
    ((576, 600), (520, 580)), ((448, 672), (480, 600)))

# What is asked for, on two cores: training by rival, inference by rival and size.
TRAINING = {"eager": 1.8, "compile": 1.5}
TRAINING_BF16 = {"bf16": 1.4}
INFERENCE = {(480, 640): {"eager": 2.0, "compile": 1.25, "onnxruntime": 0.95, "openvino": 0.9},
             (800, 1066): {"eager": 2.5, "compile": 1.35, "onnxruntime": 0.95, "openvino": 0.9}}
INFERENCE_BF16 = {(480, 640): {"openvino bf16": 0.8, "bf16": 1.5}, (800, 1066): {"openvino bf16": 0.8}}
VARYING_RATIO, MEMORY_RATIO, DEMO_RATIO = 1.6, 1.0, 1.3
BUSY = 2.0  # times its own time on a quiet machine, of a training step beside a busy process
FRACTION = 0.7  # of the limit, training
START, START_WITHOUT_OPERATORS = 6.0, 60.0  # seconds
