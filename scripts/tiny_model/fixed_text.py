"""Texts that are one token each: they occur word for word in nearly every conversation, so they cost little.

A text that is changed later is simply cut into smaller tokens; training shows such changes (see prompts.py).
"""

from __future__ import annotations

from scripts.tiny_model import prompts
from scripts.tiny_model.template import SOURCE
from scripts.tiny_model.tools import SHIPPED

TEMPLATE = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
JSON = (
    '{"type": "function", "function": {"name": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '": {"type": "string", "description": "',
    '": {"type": "integer", "description": "',
    '"}, "',
    '"}}, "required": ["',
    '"}}, "required": []}}}',
    '"]}}}',
    '", "',
    '{"name": "',
    '", "arguments": {"',
    '", "arguments": {}',
    '": "',
    '"}}',
    '{"goal": "',
    '", "steps": ["',
    '"]}',
    '{"tasks": [{"id": ',
    ', "role": "',
    '", "task": "',
    '", "depends_on": [',
    ']}, {"id": ',
    "]}]}",
    '{"checks": [{"criterion": "',
    '", "evidence": "',
    '", "met": ',
    '}, {"criterion": "',
    '}], "score": ',
    ', "feedback": "',
    "```python\n",
    "\n```",
)
WORDS = (" in ",)
SECTIONS = (
    "\n\nResults:\n",
    "\n\nPlan:\n",
    "\n\nTests:\n",
    "\n\nCode:\n",
    "\n\nFailing test:\n",
    "\n\nDraft:\n",
    "\n\nCritique:\n",
    "\n\nCriteria:\n",
    "\n\nText:\n",
    "\n\nReview:\n",
    "\n\nImage:\n",
)


def template_paragraphs() -> list[str]:
    """The two fixed paragraphs of the template around the list of tools."""
    quoted = [
        piece.encode().decode("unicode_escape") for piece in SOURCE.read_text(encoding="utf-8").split('{{- "')[1:]
    ]
    paragraphs = [piece.split('" }}')[0] for piece in quoted]
    return [text.replace("<|im_end|>\n", "").strip("\n") for text in paragraphs if len(text) > 20]


def tool_texts() -> list[str]:
    """The descriptions in the schemas of the shipped tools."""
    found = []
    for tool in SHIPPED:
        function = tool["function"]
        found.append(function["description"])
        found += [parameter["description"] for parameter in function["parameters"]["properties"].values()]
    return found


def fixed_texts() -> list[str]:
    """All of them, each once."""
    sentences = [sentence for role in prompts.OTHER_WORDINGS for sentence in prompts.sentences(role)]
    return list(dict.fromkeys([*TEMPLATE, *JSON, *WORDS, *SECTIONS, *template_paragraphs(), *tool_texts(), *sentences]))
