"""What every node of a run is given: callers by role, tools, the ledger, and where events go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel

from benchai.agents.attempts import Attempts, Failure
from benchai.agents.context import Compaction, Context
from benchai.agents.ladder import next_action
from benchai.agents.messages import text_of
from benchai.agents.prompts import prompt
from benchai.agents.role import MODEL, SECONDS, Agents, Answer, Request
from benchai.agents.structured import structured
from benchai.agents.whole import whole_reply
from benchai.config.routing import RoutingConfig
from benchai.errors import BenchAIError
from benchai.events import Emit, ModelCall, Then
from benchai.graphs.acting import Acting
from benchai.graphs.guards import BudgetSpent, Ledger
from benchai.tools.registry import ToolRegistry
from benchai.tools.tool import ToolContext

SUMMARY_TOKENS = 256
T = TypeVar("T", bound=BaseModel)


def _no_complaint(_: Any) -> str | None:
    return None


def _every_role(_: str) -> bool:
    return True


async def _unknown(_: Collection[str]) -> bool:
    return False


@dataclass(frozen=True)
class RunContext:
    """The context of a LangGraph run (``runtime.context`` in a node).

    Attributes:
        agents: Callers by role.
        tools: The tools of the run.
        tool_context: What the tools may know of the run.
        ledger: What the run may spend, all its models and workers together.
        emit: Takes the events.
        acting: Runs tools under the permissions.
        approve_plan: Whether a plan is shown to the user before work begins.
        workflow: Name of the workflow that the run began with.
        served: Whether a model serves a role.
        model_of: The name of the model that serves a role.
        routing: What the configuration adds to the router's tables.
        fit_together: Whether the models of some roles can run at the same time; False where that is not known.
        given: What the caller of a user's graph gives it as its own context.
        record: Keeps the usage row of each call of a model; without a reply of one that failed.
    """

    agents: Agents
    tools: ToolRegistry
    tool_context: ToolContext
    ledger: Ledger
    emit: Emit
    acting: Acting = field(default_factory=Acting)
    approve_plan: bool = False
    workflow: str = ""
    served: Callable[[str], bool] = _every_role
    model_of: Callable[[str], str] = str
    routing: RoutingConfig | None = None
    fit_together: Callable[[Collection[str]], Awaitable[bool]] = _unknown
    record: Callable[[ModelCall, Request, AIMessage | None], None] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    async def call(
        self,
        role: str,
        messages: Sequence[AnyMessage],
        tools: Sequence[dict[str, Any]] = (),
        *,
        window: Context | None = None,
        tool_choice: Literal["none"] | None = None,
        wrap_up: bool = False,
    ) -> AIMessage:
        """The next reply of a role's model: an answer, or calls of tools that went up the ladder.

        Args:
            role: Whose model.
            messages: The conversation, the system prompt first.
            tools: OpenAI schemas of the tools that the model may call.
            window: Keeps the conversation within the model's context; default: one for this call alone.
            tool_choice: "none" forbids calls.
            wrap_up: Whether this is the last call of the run, which may be one more than its steps.

        Raises:
            BudgetSpent: a limit is reached; the call is not made.
            EndpointError: the call failed.
        """
        request = Request(messages, tools, tool_choice=tool_choice, window=window or self.window(role))
        return await next_action(self.answers(role, wrap_up), request, self.tools, self.emit)

    async def write(self, role: str, system: str | SystemMessage, task: str | HumanMessage) -> str:
        """The text that a role's model writes for a task; ``system`` is a prompt, or names one of the package.

        Raises:
            BudgetSpent: a limit is reached; the call is not made.
            EndpointError: the call failed, or the model answered nothing twice.
        """
        question = task if isinstance(task, HumanMessage) else HumanMessage(task)
        request = Request([_system(system), question], window=self.window(role))
        return text_of(await whole_reply(self.answers(role), request, self.emit))

    async def decide(
        self,
        role: str,
        system: str | SystemMessage,
        task: str,
        form: type[T],
        check: Callable[[T], str | None] = _no_complaint,
    ) -> T:
        """What a role's model decides, as an instance of ``form``; ``check`` may complain about it once.

        ``system`` is a prompt, or names one of the package.

        Raises:
            BudgetSpent: a limit is reached; the call is not made.
            BadStructure: the reply was wrong twice.
            EndpointError: the call failed.
        """
        request = Request([_system(system), HumanMessage(task)], window=self.window(role))
        return await structured(self.answers(role), request, form, self.emit, check)

    async def act(self, reply: AIMessage, messages: Sequence[AnyMessage] = ()) -> list[ToolMessage]:
        """Run the tools that a reply calls, after the user's approval where the permissions ask for it.

        Args:
            reply: The model's reply.
            messages: The conversation before it, in which loops are looked for.
        """
        return await self.acting.act(self, reply, messages)

    def answers(self, role: str, wrap_up: bool = False) -> Answer:
        """Makes calls of a role's model within the run's budget."""

        async def answer(request: Request) -> AIMessage:
            step = self.ledger.begin_step(wrap_up)
            limit = min(request.max_tokens or self.ledger.tokens_left, self.ledger.tokens_left)
            attempts = Attempts(partial(self._failed, step, role, request))
            limited = replace(request, max_tokens=limit, patience=self.ledger.seconds_left, attempts=attempts)
            try:
                reply = await self.agents.role(role).answer(limited)
            except BaseException as error:
                attempts.end("repaired" if isinstance(error, request.mendable) else "given_up")
                raise
            self.ledger.add(reply)
            self._tell(_model_call(step, role, reply), request, reply)
            return reply

        return answer

    def _failed(self, step: int, role: str, request: Request, failure: Failure, then: Then) -> None:
        """Tell of a call that failed."""
        call = ModelCall(
            time=failure.time,
            step=step,
            role=role,
            model=failure.model or self.model_of(role),
            seconds=round(failure.seconds, 4),
            error=failure.kind,
            detail=failure.detail,
            then=then,
        )
        self._tell(call, request, None)

    def _tell(self, call: ModelCall, request: Request, reply: AIMessage | None) -> None:
        self.emit(call)
        if self.record is not None:
            self.record(call, request, reply)

    def window(self, role: str, state: Compaction | None = None) -> Context:
        """Keeps a conversation within the context of a role's model; its old turns are summarised by that model."""

        async def summarise(text: str) -> str:
            # without a summary the old turns are left out
            request = Request(
                [SystemMessage(prompt("summary")), HumanMessage(text)],
                max_tokens=SUMMARY_TOKENS,
                mendable=(BenchAIError,),
            )
            try:
                return text_of(await self.answers(role)(request))
            except BudgetSpent:
                # the call that waits for it had its step already
                return ""

        return Context(self.emit, state, summarise)


def _system(system: str | SystemMessage) -> SystemMessage:
    return system if isinstance(system, SystemMessage) else SystemMessage(prompt(system))


def _model_call(step: int, role: str, reply: AIMessage) -> ModelCall:
    usage = reply.usage_metadata
    data = reply.response_metadata
    details = usage.get("input_token_details", {}) if usage else {}
    return ModelCall(
        step=step,
        role=role,
        model=str(data.get(MODEL, "")),
        prompt_tokens=usage["input_tokens"] if usage else 0,
        completion_tokens=usage["output_tokens"] if usage else 0,
        cached_tokens=details.get("cache_read", 0),
        seconds=round(float(data.get(SECONDS, 0.0)), 4),
        finish_reason=str(data.get("finish_reason", "")),
    )
