"""``benchai models advise`` as a shell runs it: what is piped on is a configuration."""

from __future__ import annotations

from pathlib import Path

import yaml

from benchai.config import load_config
from tests.integration.helpers import benchai_afresh

SEED = ("--gpu-mib", "12288", "--ram-mib", "47104")


def test_stdout_is_a_configuration_and_stderr_a_table(tmp_path: Path) -> None:
    done = benchai_afresh("models", "advise", *SEED, cwd=tmp_path)
    assert done.code == 0
    done.clean()
    assert yaml.safe_load(done.out)["roles"] == {
        "general": "phi-3",
        "planner": "qwen2.5",
        "code": "deepseek-coder",
        "research": "qwen2.5",
        "vision": "qwen2-vl",
    }
    rows = [line.split() for line in done.err.splitlines()]
    [code] = [row for row in rows if row[:1] == ["code"]]
    assert code == ["code", "DeepSeek", "Coder", "6.7B", "Q5_K_M", "8192", "f16", "GPU", "0", "8935", "estimated"]
    (tmp_path / "benchai.yaml").write_text(done.out)
    assert all("missing" in warning for warning in load_config(tmp_path / "benchai.yaml", {}).warnings)


def test_what_cannot_be_is_an_error_and_a_hint(tmp_path: Path) -> None:
    done = benchai_afresh("models", "advise", "--gpu-mib", "0", "--ram-mib", "200", cwd=tmp_path)
    done.refused("no model fits", "100 MiB", "benchai init --tiny")
