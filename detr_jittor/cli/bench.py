"""`detr-jittor bench`: the speed and memory of both twins, side by side."""

import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from detr_jittor.bench import report
from detr_jittor.bench.numbers import spread
from detr_jittor.bench.plan import FULL, QUICK, BenchPlan
from detr_jittor.bench.run import run as run_all
from detr_jittor.bench.session import Session
from detr_jittor.bench.tasks import LIMIT_SIDE
from detr_jittor.compare.conditions import version
from detr_jittor.config.check import check
from detr_jittor.config.options import Config, read_config
from detr_jittor.data.demo import write_demo_set
from detr_jittor.data.subset import write_subset
from detr_jittor.report.log import make_folder, write_whole
from detr_jittor.twin import processor, threads

HELP = "measure the speed and memory of the Jittor twin against PyTorch and inference engines"
PACKAGES = ("detr-jittor", "jittor", "torch", "onnxruntime", "openvino", "numpy")
DEMO_SIDE = 480  # pixels of the generated pictures, where there are no real ones


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output_dir", required=True, metavar="D", help="folder for bench.json and the page")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds, in about five minutes")
    parser.add_argument("--coco_path", metavar="P", help="folder with annotations/, train2017/ and val2017/, for an "
                                                         "epoch of real pictures [generated ones]")
    parser.add_argument("--config", metavar="FILE", help="take the model from the config.json of a run [DETR-R50]")


def run(args: argparse.Namespace) -> int:
    config = read_config(args.config) if args.config else Config()
    norm = "frozen" if config.model.backbone_norm == "auto" else config.model.backbone_norm
    config = config.replace(backbone_norm=norm, num_classes=config.model.num_classes or 91, device="cpu",
                            coco_path=args.coco_path)
    check(config)
    plan = QUICK if args.quick else FULL
    return bench(config, plan if processor.has_bfloat16() else plan.without_bfloat16(), Path(args.output_dir))


def bench(config: Config, plan: BenchPlan, folder: Path) -> int:
    """Measure, tell each row as it is done, and write the report. Returns: 0."""
    make_folder(folder)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        data = pictures(config, plan, Path(scratch) / "pictures")
        session = Session(data, plan, threads.count(), tell, Path(scratch))
        rows = run_all(session)
    limits = [2 * LIMIT_SIDE**3 / seconds / 1e9 for seconds in session.limits]
    conditions = {
        "command": f"detr-jittor {shlex.join(sys.argv[1:])}", "seconds": time.monotonic() - began,
        "machine": {"cpu": processor.name(), "instructions": processor.instruction_set(),
                    "threads": threads.count(), "system": platform.platform(terse=True)},
        "versions": {name: version(name) for name in PACKAGES}, "model": config.flat(),
        "limit_gflops": limits and dict(zip(("median", "least", "most"), (median(limits), *spread(limits)))),
        "differences": session.differences, "identities": session.identities,
        "left_out": plan.left_out,
    }
    write_whole(folder / "bench.json", json.dumps(report.to_json(rows, conditions), indent=1) + "\n")
    write_whole(folder / "bench.md", report.markdown(rows, conditions))
    write_whole(folder / "bench.html", report.to_html(rows, conditions))
    print(f"\n{report.markdown(rows, conditions)}\nAs a page: {folder / 'bench.html'}")
    return 0


def pictures(config: Config, plan: BenchPlan, folder: Path) -> Config:
    """Settings with a small dataset: some of the user's pictures, or generated ones."""
    count = max(plan.run_pictures, 2)
    if config.data.coco_path:
        write_subset(config.data, folder, train=count, val=max(count // 2, 1))
    else:
        write_demo_set(folder, train=count, val=max(count // 2, 1), size=DEMO_SIDE)
    return config.replace(coco_path=str(folder))


def tell(line: str) -> None:
    print(line, flush=True)
