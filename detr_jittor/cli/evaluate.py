"""`detr-jittor evaluate`: the AP of a checkpoint, printed and as eval.json."""

import argparse
import json
from pathlib import Path

from detr_jittor.cli.options import add_config_arguments, config_and_start
from detr_jittor.engine.evaluate import evaluate
from detr_jittor.report.log import write_whole

HELP = "measure the AP of a checkpoint"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)


def run(args: argparse.Namespace) -> int:
    args.eval = True
    config, start = config_and_start(args)
    results = evaluate(config, start)
    if results is None:  # one of several processes, of which the first writes
        return 0
    print(results.tables())
    if config.run.output_dir:
        file = Path(config.run.output_dir) / "eval.json"
        write_whole(file, json.dumps(results.to_json(), indent=2, ensure_ascii=False) + "\n")
        print(f"\nThe same numbers are in {file}.")
    return 0
