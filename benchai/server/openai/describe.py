"""The wire in the OpenAPI document: FastAPI knows nothing of paths that are served before it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from benchai.server.openai.schema import BODIES

ANSWERS = {
    "/chat/completions": "A chat completion, or its chunks as server-sent events",
    "/completions": "A completion, or its chunks as server-sent events",
    "/responses": "A response, or its events",
    "/embeddings": "A list of embeddings",
    "/rerank": "The documents' indices with their scores",
    "/tokenize": "The tokens' ids",
}
ERRORS = {
    "400": "The request cannot be served as it is; also a prompt beyond the model's context",
    "401": "A key is needed",
    "404": "No model of that name; or no workflow waits for this answer",
    "409": "The answer to what a workflow asked was given before",
    "413": "The body is too long",
    "429": "Too many requests, or a full queue; Retry-After says when to come again",
    "502": "The model broke off",
    "503": "The model is not ready; Retry-After says when to come again",
}
_REFERENCE = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Add the wire's paths to the application's OpenAPI document."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        if "/v1/chat/completions" not in document["paths"]:
            paths, schemas = wire_paths()
            document["paths"] |= paths
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def wire_paths() -> tuple[dict[str, Any], dict[str, Any]]:
    """Paths and schemas of the wire, in the form of OpenAPI 3.1."""
    inputs = [(path, "validation", adapter) for path, adapter in BODIES.items()]
    schemas, whole = TypeAdapter.json_schemas(inputs, ref_template=_REFERENCE)  # type: ignore[arg-type]
    paths = {}
    for path, answer in ANSWERS.items():
        paths["/tokenize" if path == "/tokenize" else f"/v1{path}"] = {
            "post": {
                "summary": answer,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": schemas[path, "validation"]}},
                },
                "responses": {"200": {"description": answer}}
                | {status: {"description": text} for status, text in ERRORS.items()},
            }
        }
    return paths, whole.get("$defs", {})
