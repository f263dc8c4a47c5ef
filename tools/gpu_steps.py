"""The steps of gpu_check.sh, one after another, and gpu_check.json after each: what was found, or where it stopped.

    python tools/gpu_steps.py FOLDER SECONDS [STEP,STEP…]

Each step is a process of its own with a limit of time; one that fails or is ended there does not keep the next from
being run, and what it had compiled by then is found by the next. DEVICE=cpu in the environment rehearses them, with
less of each.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

DEVICE = os.environ.get("DEVICE", "cuda")
REHEARSAL = DEVICE == "cpu"
SIZES = ((96, 128), (128, 160)) if REHEARSAL else ((480, 640), (800, 1066))  # height and width in pixels
WARM_UP, TRAIN, INFER = (1, 3, 3) if REHEARSAL else (5, 50, 20)
SMALL = ["--backbone", "resnet18", "--min_size", "64", "--max_size", "96", "--enc_layers", "1", "--dec_layers", "2",
         "--hidden_dim", "64", "--nheads", "4", "--dim_feedforward", "64", "--num_queries", "10"] if REHEARSAL else []
ALIGN = ["align", "--device", DEVICE, "--steps", "2", "--images", "2", *SMALL]
# PyTorch as it comes has cuDNN round to TF32 in convolutions, which is faster; Jittor here has not. With this it has
# not either: https://docs.nvidia.com/deeplearning/cudnn/backend/latest/reference/env-vars.html
EXACT = ["env", "NVIDIA_TF32_OVERRIDE=0"]
LIMIT = 1e-4  # of the largest value; as tests/bench/test_bench_run.py has it
KEPT = 3000  # characters of a step's output
USUAL = 450  # seconds for all, for which the limits of the steps are; with more each has more
LEAST = 5  # seconds with which a step is still begun


def steps(folder: Path) -> dict[str, tuple[list[str], int]]:
    """{name: (what is run, the most seconds it may take)}. The first ones compile what the later ones use."""
    def command(*args: str) -> list[str]:
        return [sys.executable, "-m", "detr_jittor", *args]

    def part(*args: str) -> list[str]:
        return [sys.executable, __file__, "--part", *args, str(folder)]

    return {
        "doctor": (command("doctor"), 180),
        "kernels": (part("kernels"), 100),
        "align": ([*EXACT, *command(*ALIGN, "--output_dir", str(folder / "align"))], 150),
        "jittor": (part("times", "jittor"), 120),
        "eager": (part("times", "eager"), 60),
        "eager exact": ([*EXACT, *part("times", "eager")], 60),
        "align box": ([*EXACT, *command(*ALIGN, "--decoder", "box", "--output_dir", str(folder / "align-box"))], 120),
        "compile": (part("times", "compile"), 120),
    }


def run(folder: Path, seconds: float, wanted: list[str]) -> int:
    """The steps, all unless some are wanted, whatever became of the one before. Returns: 0 if all passed."""
    todo = steps(folder)
    if unknown := set(wanted) - set(todo):
        sys.exit(f"{', '.join(unknown)}: no such step. Choose from {', '.join(todo)}.")
    end, done = time.monotonic() + seconds, []
    report = {"card": card(), "device": DEVICE, "rehearsal": REHEARSAL, "stopped_at": [], "steps": done}
    for name in wanted or todo:
        line, limit = todo[name]
        print(f"{name} …", flush=True)
        done.append({"name": name, "status": "running"})  # for whoever finds the report when all was ended from outside
        write(folder, report)
        left = end - time.monotonic()
        limit *= max(1, seconds / USUAL)
        done[-1] = one(name, line, min(limit, left)) if left > LEAST else {"name": name, "status": "no time was left"}
        print(f"    {done[-1]['status']}, {done[-1].get('seconds', 0):.0f} s", flush=True)
        if done[-1]["status"] != "passed":
            report["stopped_at"].append(name)
        write(folder, report)
    return 1 if report["stopped_at"] else 0


def write(folder: Path, report: dict) -> None:
    """The report, with what the steps have written."""
    found = {name: json.loads(file.read_text()) for name in ("kernels", "times")
             if (file := folder / f"{name}.json").is_file()}
    for name in ("align", "align-box"):
        if (file := folder / name / "alignment.json").is_file():
            whole = json.loads(file.read_text())
            found[name] = {"verdict": whole["verdict"], "median_ratio": whole["median_ratio"],
                           "ran": [item["note"] for item in whole["stages"][0]["items"]],
                           "stages": {stage["name"]: stage["verdict"] for stage in whole["stages"]}}
    new = folder / "gpu_check.json.new"
    new.write_text(json.dumps(report | found, indent=1) + "\n")
    new.replace(folder / "gpu_check.json")


def one(name: str, line: list[str], limit: float) -> dict:
    """Run a step; when its time is up, end it with all processes that it has started. Errors: none of the step's."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = "passed" if process.wait(limit) == 0 else f"failed ({process.returncode})"
        except subprocess.TimeoutExpired:
            status = f"ended after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):  # none is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        said = output.read().decode(errors="replace")
    return {"name": name, "status": status, "seconds": round(time.monotonic() - began, 1), "output": said[-KEPT:]}


def kernels(folder: Path) -> None:
    """Each kernel with all its gradients as Jittor computes it on the device, against PyTorch on the processor.

    Errors: SystemExit if one errs by more than `LIMIT`, or it is not the device that was asked for.
    """
    from detr_jittor.bench.kernels import CASES, calls
    from detr_jittor.jt import kernels as ours
    from detr_jittor.jt.twin import choose_device

    check_device(choose_device(DEVICE))
    errors, words = {}, ours.Kernels().words
    jittor, pytorch = (calls(framework, dropout=0.0) for framework in ("jittor", "pytorch"))
    for case in CASES:
        outputs = 1 + len(case.inputs)  # the value and the gradients of the inputs; those of weights come after them
        pairs = zip(jittor[case.name](), pytorch[case.name](), strict=True)
        errors[case.name] = max(
            error((ours.leave(mine) if case.in_backbone and place < outputs else mine).numpy(), theirs.detach().numpy())
            for place, (mine, theirs) in enumerate(pairs))
        print(f"{errors[case.name]:.1e}  {case.name}", flush=True)
        (folder / "kernels.json").write_text(json.dumps({"kernels": words, "errors": errors}, indent=1) + "\n")
    if wrong := [name for name, value in errors.items() if not value < LIMIT]:  # nor is NaN
        sys.exit(f"wrong: {', '.join(wrong)}")


def error(found, wanted) -> float:
    """The largest difference, relative to the largest value that is wanted."""
    return float(abs(found - wanted).max() / abs(wanted).max())


def times(who: str, folder: Path) -> None:
    """Time the training steps and forward passes of one rival, and put them into times.json beside the others'.
    Seconds, from NumPy to NumPy, the median; memory in MB."""
    from detr_jittor.bench.rivals import RIVALS
    from detr_jittor.bench.tasks import TwinTask
    from detr_jittor.config.options import Config
    from detr_jittor.twin.synthetic import random_batch

    config = Config().replace(backbone_norm="frozen", num_classes=91, device=DEVICE)
    if REHEARSAL:
        config = config.replace(backbone="resnet18", enc_layers=1, dec_layers=2, hidden_dim=64, nheads=4,
                                dim_feedforward=64, num_queries=10)
    before = used()
    task = TwinTask(RIVALS[who], config, 91)
    check_device(str(task.twin.device))
    task.take_weights()
    found = {"ran": task.identity()}
    for height, width in SIZES:
        size = f"{height}×{width}"
        if (height, width) == SIZES[0]:
            task.put(size, random_batch([(height, width)] * 2, 91, 0))
            found[f"training step, batch 2, {size}"] = typical(lambda size=size: task.train(size)[0], TRAIN)
            found["MB of the card, training"] = used() - before  # neither framework gives any back
        task.put(size, random_batch([(height, width)], 91, 0))
        found[f"inference, {size}"] = typical(lambda size=size: task.infer(size), INFER)
    found |= {"MB of the card": used() - before, "MB of the machine": round(task.peak_memory())}
    print(json.dumps(found, indent=1, ensure_ascii=False))
    file = folder / "times.json"
    others = json.loads(file.read_text()) if file.is_file() else {}
    key = who + ", without TF32" * (os.environ.get("NVIDIA_TF32_OVERRIDE") == "0")
    file.write_text(json.dumps(others | {key: found}, indent=1) + "\n")


def typical(measure: Callable[[], float], count: int) -> float:
    """The median of so many, after a warm-up."""
    return median([measure() for _ in range(WARM_UP + count)][WARM_UP:])


def check_device(device: str) -> None:
    """Errors: SystemExit if it is another than was asked for: a twin goes on with the CPU where it finds no card."""
    if not device.startswith(DEVICE):
        sys.exit(f"runs on {device}, not on {DEVICE}")


def used() -> int:
    """MB of the card that are in use, by whomever; 0 without a card."""
    return int((smi("memory.used", "nounits").split() or ["0"])[0])


def card() -> str:
    """The card's name, driver and memory, "" without one."""
    return smi("name,driver_version,memory.total")


def smi(what: str, *form: str) -> str:
    """What the driver says, "" where there is none."""
    line = ["nvidia-smi", f"--query-gpu={what}", f"--format={','.join(('csv', 'noheader', *form))}"]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # so that a step's processes end too
    if sys.argv[1] == "--part":
        part, *args, folder = sys.argv[2:]
        {"kernels": kernels, "times": times}[part](*args, Path(folder))
    else:
        sys.exit(run(Path(sys.argv[1]), float(sys.argv[2]), [s for s in sys.argv[3].split(",") if s]
                     if len(sys.argv) > 3 else []))
