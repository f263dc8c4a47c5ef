"""`detr-jittor watch`: the training runs in a folder on a page in the browser."""

import argparse

from detr_jittor.app.serve import serve
from detr_jittor.cli.app import add_address

HELP = "show training runs, going on or done, on a page in the browser"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="OUTPUT_DIR", help="output folder of a run, or a folder that holds several")
    add_address(parser)


def run(args: argparse.Namespace) -> int:
    serve("", runs=args.runs, host=args.host, port=args.port, browser=not args.no_browser)
    return 0
