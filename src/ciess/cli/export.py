"""`ciess export`."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console


@dataclass(frozen=True)
class Export:
    """Write a saved model as other programs read it."""

    model: tyro.conf.Positional[Path]
    """A folder that `ciess search` saved, such as runs/search/budget-5"""
    target: tyro.conf.Positional[str]
    """faiss, faiss_int8, usearch, parquet, arrays, onnx or torchrec"""
    out: tyro.conf.Positional[Path]
    """Folder for the files"""

    def run(self, console: Console) -> None:
        """Write the files, print their names."""
        from ciess.exports import check_target, export
        from ciess.serve.saved import load

        check_target(self.target, self.out)
        for path in export(load(self.model), self.target, self.out):
            console.print(f"wrote {path}", soft_wrap=True)
