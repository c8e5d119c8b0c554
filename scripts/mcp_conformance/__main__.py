"""`python -m scripts.mcp_conformance`: run the npm conformance package against our MCP server, then our MCP client.

It wants Node 20 and the package in build/node, where `make mcp-conformance` puts it. A scenario that fails and is not
in expected.yml fails this, and so does one that is there and passes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "build" / "node" / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
#: Of the package: later ones want a newer Node, and ask for other things.
VERSION = "0.1.13"
EXPECTED = HERE / "expected.yml"
#: What of the client scenarios BenchAI's client has a part in; the others ask for OAuth, which it does not speak.
CLIENT = ("initialize", "tools_call", "elicitation-sep1034-client-defaults", "sse-retry")
SERVING = re.compile(r"serves .* at (http://\S+)")
SECONDS = 120
CONFIG = f"""
models: {{tiny: {{file: "{ROOT / "benchai" / "models" / "tiny.gguf"}", threads: 1, gpu_layers: 0}}}}
roles: {{general: tiny}}
workflows: ["{HERE / "workflows.py"}"]
"""


def main() -> int:
    """0 where each scenario ends as is expected of it."""
    parser = argparse.ArgumentParser(prog="python -m scripts.mcp_conformance", description=__doc__)
    parser.add_argument("--package", type=Path, default=PACKAGE, help="dist/index.js of the conformance package")
    package = parser.parse_args().package
    if not usable(package):
        sys.exit(f"Node, and version {VERSION} of the package at {package}, are needed: make mcp-conformance")
    with serving() as url:
        failed = run_server(package, f"{url}/mcp")
    for scenario in CLIENT:
        failed |= run_client(package, scenario)
    return failed


def usable(package: Path = PACKAGE) -> bool:
    """Whether Node and the version that we know are there."""
    about = package.parents[1] / "package.json"
    known = about.exists() and json.loads(about.read_text(encoding="utf-8"))["version"] == VERSION
    return known and shutil.which("node") is not None


def run_server(package: Path, url: str) -> int:
    """All server scenarios; 0 where each ends as expected."""
    more = ["--suite", "all", "--expected-failures", str(EXPECTED)]
    return subprocess.run(["node", package, "server", "--url", url, *more], timeout=SECONDS, check=False).returncode


def run_client(package: Path, scenario: str) -> int:
    """One client scenario; 0 where it ends as expected."""
    command = f"{sys.executable} -m scripts.mcp_conformance.client"
    argv = ["node", package, "client", "--command", command, "--scenario", scenario]
    more = ["--expected-failures", str(EXPECTED)]
    return subprocess.run([*argv, *more], cwd=ROOT, timeout=SECONDS, check=False).returncode


@contextmanager
def serving() -> Iterator[str]:
    """The address of a server with the workflows that the scenarios call."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "benchai.yaml").write_text(CONFIG, encoding="utf-8")
        environment = {**os.environ, "BENCHAI_HOME": str(folder / "home")}
        argv = [sys.executable, "-m", "benchai.cli", "serve", "--port", "0"]
        with subprocess.Popen(argv, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stderr is not None
                yield next(found[1] for line in process.stderr if (found := SERVING.search(line)))
            finally:
                process.terminate()


if __name__ == "__main__":
    sys.exit(main())
