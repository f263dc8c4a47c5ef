"""Every tolerance of the alignment, with what was measured and why it is what it is.

Errors are relative to the truth's root mean square (float64), unless said otherwise.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    value: float
    measured: str
    reason: str


TOLERANCES = {
    "factor": Tolerance(4.0, "", "Jittor's error may be so many times PyTorch's own"),
    "floor": Tolerance(1e-6, "", "an error below this passes whatever PyTorch's is"),
    "floor of the worst element": Tolerance(1e-5, "", "likewise, for the largest error of a tensor"),
    "ceiling": Tolerance(5e-2, "", "beyond this PyTorch itself is no yardstick, and the item fails"),
    "oracle": Tolerance(1e-9, "", "the float64 twin against the NumPy oracle"),
    "pixels": Tolerance(1e-6, "", "absolute; float32 pixels against float64 ones"),
    "recording": Tolerance(1e-5, "", "the same twin with and without recording; operators are fused differently"),
    "near-tie": Tolerance(1e-6, "", "of the largest cost and per object: the error of float32 costs"),
    "kink": Tolerance(1e-4, "", "of a ReLU's inputs: as near to 0 must be what float64 decides otherwise"),
    "gradient scale": Tolerance(1e-5, "", "of the largest gradient: smaller ones are measured against this"),
    "learning rate": Tolerance(1e-5, "", "relative; read off a float32 weight"),
    "grad_norm floor": Tolerance(1e-4, "", "of a step's gradient norm: a ReLU beyond its kink changes it"),
    "update floor": Tolerance(2e-2, "", "of the update of a group of weights in a step: likewise"),
    "free-running floor": Tolerance(1e-5, "", "of the loss"),
    "detection score": Tolerance(1e-4, "", "absolute"),
    "detection box": Tolerance(0.05, "", "pixels"),
    "AP": Tolerance(1e-3, "", "absolute, in 0 … 1"),
}


def tolerance(name: str) -> float:
    return TOLERANCES[name].value
