"""Every tolerance of the alignment, with what was measured and why it is what it is.

Errors are relative to the truth's root mean square (float64), unless said otherwise.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    value: float
    measured: str
    reason: str


# "measured": R50, random weights, COCO pictures at 256 / 320, batch 2, 50 steps at 96 / 160, on two cores with AVX-512.
TOLERANCES = {
    "factor": Tolerance(4.0, "1.25 (a gradient), 1.00 (median)", "Jittor's error may be so many times PyTorch's own"),
    "floor": Tolerance(1e-6, "6.8e-7", "an error below this passes whatever PyTorch's is: some roundings of float32"),
    "floor of the worst element": Tolerance(1e-5, "7.5e-6", "likewise, for the largest error of a tensor"),
    "ceiling": Tolerance(5e-2, "4.6e-2 (AdamW's first update of query_embed)",
                         "beyond this PyTorch itself is no yardstick, and the item fails"),
    "bf16 ceiling": Tolerance(0.2, "4.2e-2 (query_embed, small model)", "the same for bfloat16: numbers of eight bits"),
    "bf16 in force": Tolerance(1e-4, "4.7e-3 (Jittor), 5.8e-3 (PyTorch), small model",
                               "below this, in the median of all tensors, it was not bfloat16"),
    "oracle": Tolerance(1e-9, "4.1e-15", "the float64 twin against the NumPy oracle"),
    "pixels": Tolerance(1e-6, "3.7e-7", "absolute; float32 pixels against float64 ones"),
    "recording": Tolerance(1e-5, "0", "the same twin with and without recording; operators may be fused differently"),
    "near-tie": Tolerance(1e-6, "8.3e-8", "of the largest cost and per object: the error of float32 costs"),
    "kink": Tolerance(1e-4, "4.4e-7", "of a ReLU's inputs: as near to 0 must be what float64 decides otherwise"),
    "gradient scale": Tolerance(1e-5, "0 (a key's bias)", "of the largest gradient: smaller ones are held against it"),
    "learning rate": Tolerance(1e-5, "below 1e-6", "relative; read off a float32 weight"),
    "grad_norm floor": Tolerance(1e-4, "9.5e-6", "of a step's gradient norm: a ReLU beyond its kink changes it"),
    "update floor": Tolerance(2e-2, "4.1e-3",
                              "of the update of a group of weights in a step: likewise"),
    "free-running floor": Tolerance(1e-5, "4.1e-3, where PyTorch has 5.7e-3", "of the loss; below it there is no band"),
    "detection score": Tolerance(1e-4, "7.5e-8", "absolute"),
    "detection box": Tolerance(0.05, "1.2e-4", "pixels"),
    "detection mask": Tolerance(1e-3, "0", "share of a mask's pixels"),
    "AP": Tolerance(1e-3, "0", "absolute, in 0 … 1"),
}


def tolerance(name: str) -> float:
    return TOLERANCES[name].value
