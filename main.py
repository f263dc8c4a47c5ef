"""The original command: `python main.py --coco_path …` is `detr-jittor train --coco_path …`."""

import sys

from detr_jittor.cli.commands import end, main

if __name__ == "__main__":
    end(main(["train", *sys.argv[1:]]))
