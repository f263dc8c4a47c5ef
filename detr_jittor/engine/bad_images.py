"""Pictures that cannot be read, counted over a run."""

import sys

from detr_jittor.errors import DetrError


class BadImages:
    """The pictures that could not be read. Each costs itself; more than a limit cost the run."""

    def __init__(self, limit: int, quiet: bool = False):
        """
        Args:
            quiet: let another process name them.
        """
        self.limit, self.quiet, self.reasons = limit, quiet, {}

    def add(self, reasons: list[str]) -> None:
        """Errors: DetrError beyond the limit."""
        for reason in reasons:
            if reason not in self.reasons:
                self.reasons[reason] = True
                if not self.quiet:
                    print(f"left out: {reason}", file=sys.stderr)
        if len(self.reasons) > self.limit:
            raise DetrError(f"{len(self.reasons)} pictures could not be read, the last: {reasons[-1]}",
                            f"More than {self.limit} end the run; --max_bad_images sets the limit.")

    def tell(self) -> None:
        if self.reasons and not self.quiet:
            print(f"{len(self.reasons)} pictures could not be read and were left out.", file=sys.stderr)
