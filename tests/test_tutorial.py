"""The notebook in docs/, executed as it stands but with few pictures and one epoch."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).parents[1]
NUMBERS = "PICTURES, EPOCHS = 800, 4"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if NUMBERS in cell.source)
    cell.source = cell.source.replace(NUMBERS, "PICTURES, EPOCHS = 16, 1")
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = [output.data for cell in cells for output in cell.outputs if "data" in output]
    assert sum("image/png" in data for data in shown) == 7  # curves, mistakes, three worst ones, one more, attention
    assert sum("image/jpeg" in data for data in shown) == 1
    told = "".join(output.text for cell in cells for output in cell.outputs if output.output_type == "stream")
    assert "objects, " in told and "shapes.onnx" in told and "Traceback" not in told
    assert (tmp_path / "shapes.onnx").stat().st_size > 1e6 and (tmp_path / "output/shapes/best.pkl").is_file()
    Image.open(tmp_path / "output/shapes/performance_comparison.png").verify()


def test_it_is_kept_without_results():
    """Which would be those of some machine and some day."""
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
