"""Names of the spans' attributes: OpenTelemetry's GenAI conventions, and our own under ``benchai.``.

The GenAI conventions moved from OpenTelemetry's main repository (last in 1.41) to ``semantic-conventions-genai``. Its
first release names workflows by ``gen_ai.agent.name``; until then it was ``gen_ai.workflow.name``. Backends know one
or the other: the span of a workflow has both.
"""

from __future__ import annotations

from typing import Final

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
WORKFLOW: Final = "gen_ai.workflow.name"
AGENT: Final = "gen_ai.agent.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
TOOL: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL: Final = "gen_ai.tool.call.id"
# what people and models wrote: only where it is asked for
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

ERROR: Final = "error.type"
SERVER: Final = "server.address"
PORT: Final = "server.port"

RUN: Final = "benchai.run.id"
STOP_REASON: Final = "benchai.stop_reason"
ROLE: Final = "benchai.role"
STEP: Final = "benchai.step"
STEPS: Final = "benchai.steps"
THEN: Final = "benchai.then"
NODE: Final = "benchai.node"
MODEL: Final = "benchai.model"
DETAIL: Final = "benchai.detail"
