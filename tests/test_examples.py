"""The example notebooks run as they stand."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import ciess

EXAMPLES = Path(__file__).parent.parent / "examples"
BRIEF = """
from ciess.models.als import ALS

ALS.distillation = ALS.distillation.shortened(12)
"""
"""Before the first cell: what is tried is the notebook, whatever its models are worth."""


@pytest.fixture
def _own_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is this Python's, not one of the user's, and imports the package that is tested here."""
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("PYTHONPATH", str(Path(ciess.__file__).parents[1]))
    startup = tmp_path / "ipythondir" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "brief.py").write_text(BRIEF)


@pytest.mark.usefixtures("_own_kernel")
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.ipynb")))
def test_notebooks_run(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "kept without outputs"
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    for cell in code:
        assert [output.output_type for output in cell.outputs] == ["execute_result"], cell.source
