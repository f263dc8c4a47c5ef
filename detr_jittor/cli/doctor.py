"""`detr-jittor doctor`: what this machine has, whether Jittor can use it, and the fix if not."""

import argparse
import dataclasses
import json

from detr_jittor.cli.doctor_checks import FAILED, examine

HELP = "check this machine: compiler, Python, oneDNN, GPU, disk, and whether Jittor computes rightly"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as a JSON list")


def run(args: argparse.Namespace) -> int:
    """Returns: 1 if anything failed."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not args.json:
            print(f"{finding.status:<8} {finding.subject:<15} {finding.found}", flush=True)
            if finding.fix:
                print(f"{'':<24} fix: {finding.fix}", flush=True)
    if args.json:
        print(json.dumps([dataclasses.asdict(f) for f in findings], indent=2))
    return int(any(f.status == FAILED for f in findings))
