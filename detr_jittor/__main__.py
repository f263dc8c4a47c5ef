"""`python -m detr_jittor COMMAND`, which is the same as `detr-jittor COMMAND`."""

import sys

from detr_jittor.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
