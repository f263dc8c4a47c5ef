"""Notebooks: whether this process serves one, and pictures shown there."""

import sys

from PIL import Image


def in_notebook() -> bool:
    """Whether the program's lines come from a notebook (Jupyter, Colab, VS Code), which is no terminal."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def show(image: Image.Image) -> None:
    """Show a picture below the notebook's cell, else in the system's program for pictures."""
    if in_notebook():
        from IPython.display import display

        display(image)
    else:
        image.show()
