"""``benchai workflows``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from benchai.cli.options import ConfigOption, JsonOption, print_json

if TYPE_CHECKING:
    from benchai.graphs.registry import Workflow


def workflows(config: ConfigOption = None, json: JsonOption = False) -> None:
    """List the workflows: name, description, input and output, roles; tell what is wrong with those that cannot run."""
    from benchai.cli.render import print_error
    from benchai.config import load_config
    from benchai.graphs.loader import load_workflows

    registry = load_workflows(load_config(config))
    registry.check()
    for error in registry.broken.values():
        print_error(error)
    found = registry.all()
    if json:
        print_json([_as_json(one) for one in found])
        return
    for one in found:
        typer.echo(f"{one.name}: {one.description}")
        typer.echo(f"  input   {_fields(one.input.model_json_schema())}")
        typer.echo(f"  output  {_fields(one.output.model_json_schema())}")
        typer.echo(f"  roles   {', '.join(one.roles) or 'not declared'}")


def _as_json(workflow: Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "description": workflow.description,
        "input": workflow.input.model_json_schema(),
        "output": workflow.output.model_json_schema(),
        "roles": list(workflow.roles),
    }


def _fields(schema: dict[str, Any]) -> str:
    fields = schema.get("properties", {}).items()
    return ", ".join(f"{name}: {field.get('type', 'any')} ({field.get('description', '')})" for name, field in fields)
