"""The .safetensors format: the weights under their own names, AdamW's moments and moving averages beside them, all
else as JSON."""

import json
import re
from pathlib import Path

import numpy as np
from safetensors import deserialize, safe_open
from safetensors.numpy import save

from detr_jittor.checkpoint.torch_names import widened
from detr_jittor.checkpoint.unpickle import BadFile

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
          "I8": "|i1", "U8": "|u1", "BOOL": "|b1"}
MOMENT = re.compile(r"optimizer\.(\d+)\.(exp_avg|exp_avg_sq)")
AVERAGE = "ema."
KEY = "detr_jittor"  # the entry of the header that holds all else; files from elsewhere lack it


def write(file, record: dict) -> None:
    """Write a record (see layout.py) to an open binary file."""
    rest = {key: value for key, value in record.items() if key not in ("model", "ema")}
    tensors = {**record["model"], **{AVERAGE + name: value for name, value in record.get("ema", {}).items()}}
    if "optimizer" in record:
        for index, state in record["optimizer"]["state"].items():
            tensors |= {f"optimizer.{index}.{key}": state[key] for key in ("exp_avg", "exp_avg_sq")}
        rest["optimizer"] = {**record["optimizer"], "state": {i: {"step": state["step"]} for i, state
                                                              in record["optimizer"]["state"].items()}}
    file.write(save(tensors, {"format": "pt", KEY: json.dumps(rest)}))


def read(path: Path) -> dict:
    """The record of a file; from elsewhere, only `model`.

    Errors: BadFile, and what safetensors raises for a damaged file.
    """
    with safe_open(path, "np") as file:
        rest = json.loads((file.metadata() or {}).get(KEY, "{}"))
    tensors = {name: array(info) for name, info in deserialize(path.read_bytes())}
    if "optimizer" in rest:
        states = {int(index): state for index, state in rest["optimizer"]["state"].items()}
        for name in [name for name in tensors if MOMENT.fullmatch(name)]:
            index, key = MOMENT.fullmatch(name).groups()
            states[int(index)][key] = tensors.pop(name)
        rest["optimizer"]["state"] = states
    average = {name.removeprefix(AVERAGE): tensors.pop(name) for name in list(tensors) if name.startswith(AVERAGE)}
    return {**rest, **({"ema": average} if average else {}), "model": tensors}


def check(path: Path) -> None:
    """The format has no checksum: its header and lengths are what can be held against the file."""
    with safe_open(path, "np"):
        pass


def array(info: dict) -> np.ndarray:
    if info["dtype"] not in DTYPES:
        raise BadFile(f"an array of {info['dtype']}; only plain numbers are read")
    numbers = np.frombuffer(info["data"], DTYPES[info["dtype"]]).reshape(info["shape"])
    return widened(numbers) if info["dtype"] == "BF16" else numbers
