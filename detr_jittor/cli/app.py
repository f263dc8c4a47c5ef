"""`detr-jittor app`: a page in the browser that finds objects."""

import argparse

from detr_jittor.app.serve import serve
from detr_jittor.config.options import FRAMEWORKS

HELP = "open a page in the browser that finds objects in pictures"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resume", "--weights", default="detr-r50", metavar="CKPT",
                        help="checkpoint of either framework, or the name of a published model [%(default)s]")
    parser.add_argument("--runs", default="", metavar="D", help="show the training runs in this folder too")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="jittor", help="which twin runs")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="what it runs on")
    parser.add_argument("--min_size", type=int, help="short side of the pictures (default: the checkpoint's)")
    parser.add_argument("--max_size", type=int, help="longest side of the pictures (default: the checkpoint's)")
    parser.add_argument("--config", metavar="FILE", help="config.json, for a checkpoint that holds none")
    add_address(parser)


def add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on; another one than this "
                        "lets other machines use the page [%(default)s]")
    parser.add_argument("--port", type=int, metavar="N", help="port to listen on (default: the first free from 7860)")
    parser.add_argument("--no_browser", action="store_true", help="only print the address")


def run(args: argparse.Namespace) -> int:
    serve(args.resume, runs=args.runs, host=args.host, port=args.port, browser=not args.no_browser,
          framework=args.framework, device=args.device, min_size=args.min_size, max_size=args.max_size,
          config=args.config)
    return 0
