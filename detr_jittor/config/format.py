"""The version of what a run writes: checkpoints, config.json and the lines of log.txt.

It is raised when a reader of the version before would take a file for something else or not at all. Files without one
are older than this, and read as version 1.
"""

FORMAT = 1


def unknown(version) -> str:
    """Why a file of this version is not read; empty if it is. Args: version: None for a file that has none."""
    if type(version) is int and version > FORMAT:
        return f"written by a newer version of this program (format {version}; this one knows formats up to {FORMAT})"
    return "" if version is None or (type(version) is int and version >= 1) else f"of no known format ({version!r:.40})"
