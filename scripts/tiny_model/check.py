"""`python -m scripts.tiny_model.check`: do template and tokenizer here equal those of the server?

Training learns from text that this package renders and cuts. Where the server does either differently, the model
meets at work what it never saw. Run this after a change of the template, the fixed texts or the engine.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from scripts.tiny_model import data, words
from scripts.tiny_model.conversation import Conversation
from scripts.tiny_model.serve import served
from scripts.tiny_model.template import render
from scripts.tiny_model.tokenizer import Tokenizer

MODEL = Path(__file__).parents[2] / "benchai" / "models" / "tiny.gguf"
CONVERSATIONS = 200


def differences(client: httpx.Client, tokenizer: Tokenizer, conversation: Conversation) -> list[str]:
    """What the server does differently with a conversation before its last reply: "text", "tokens" or nothing."""
    messages = conversation.messages[:-1]
    body: dict[str, Any] = {"messages": messages}
    if conversation.tools:
        body["tools"] = conversation.tools
    ours = render(messages, conversation.tools, generation_prompt=True)
    theirs = client.post("/apply-template", json=body).raise_for_status().json()["prompt"]
    cut = client.post("/tokenize", json={"content": ours, "parse_special": True}).raise_for_status().json()["tokens"]
    return ["text"] * (ours != theirs) + ["tokens"] * (tokenizer.encode(ours) != cut)


def main() -> None:
    """Compare some training conversations and say how many differ."""
    tokenizer = Tokenizer.load(words.TOKENIZER)
    conversations = islice(data.training(99), CONVERSATIONS)
    with served(MODEL) as client:
        found = [fault for conversation in conversations for fault in differences(client, tokenizer, conversation)]
    print(f"{CONVERSATIONS} conversations: {found.count('text')} other texts, {found.count('tokens')} other tokens")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
