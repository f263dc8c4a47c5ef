"""`python -m detr_jittor COMMAND`, which is the same as `detr-jittor COMMAND`."""

from detr_jittor.cli.commands import end, main

if __name__ == "__main__":
    end(main())
