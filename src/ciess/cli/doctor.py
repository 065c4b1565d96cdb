"""`ciess doctor`."""

import dataclasses
import json
import sys
from dataclasses import dataclass

from rich.console import Console

from ciess.cli.options import AsJson


@dataclass(frozen=True)
class Doctor:
    """Check this installation by a search on tiny data; exit code 1 if it fails."""

    json: AsJson = False

    def run(self, console: Console) -> None:
        """Print what was found."""
        from ciess.cli.self_test import checkup

        found = checkup()
        if self.json:
            print(json.dumps(dataclasses.asdict(found), indent=1))
        else:
            variables = ", ".join(f"{name}={value}" for name, value in found.thread_variables.items())
            memory = "unknown" if found.free_memory is None else f"{found.free_memory / 10**9:.1f} GB"
            lines = {
                "versions": ", ".join(f"{name} {number}" for name, number in found.versions.items()),
                "Python": found.python,
                "system": found.system,
                "threads": f"{found.threads} of {found.cores} cores" + (f" ({variables})" if variables else ""),
                "devices": ", ".join(found.devices),
                **{f"extra {name}": told for name, told in found.extras.items()},
                "free memory": memory,
                "free disk": f"{found.free_disk / 10**9:.1f} GB",
                "cache": found.cache,
                "self-test": f"{'passed' if found.test.passed else 'FAILED'} in {found.test.seconds:.0f} s: "
                + found.test.told,
            }
            for name, told in lines.items():
                console.print(f"{name:<15}{told}", soft_wrap=True)
        if not found.test.passed:
            sys.exit(1)
