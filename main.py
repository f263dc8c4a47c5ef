"""The original command: `python main.py --coco_path …` is `detr-jittor train --coco_path …`."""

import sys

from detr_jittor.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
