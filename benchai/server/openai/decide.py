"""Who answers a request: what it names, or what the router finds, kept to the model that the conversation has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchai.config import LoadedConfig
from benchai.errors import ConfigError, ContextExceeded, QueueFull, Unavailable, UsageError
from benchai.runtime.fleet.fleet import Fleet
from benchai.runtime.fleet.member import Member
from benchai.runtime.router.choose import SECONDS_EACH, Candidate, Choice, State, choose
from benchai.runtime.router.route import Route
from benchai.runtime.router.rules import Router
from benchai.runtime.router.session import Session, Sessions
from benchai.server.openai.job import Job
from benchai.server.openai.names import AUTO, Names, Target

CHAT = "/chat/completions"
#: The role of a path whose requests need no model's name.
ROLES = {"/embeddings": "embed", "/rerank": "rerank"}
STATES: dict[str, State] = {"ready": "ready", "failed": "failed", "stopped": "stopped", "stopping": "stopped"}
#: Only an estimate is needed to choose: the model's own tokenizer counts later.
BYTES_PER_TOKEN = 4
#: JSON may have six bytes for a letter: beyond so many times its context no model need count.
SURE = 4
RETRY_SECONDS = 5.0


class Decider:
    """Fills in a job's target, route and session.

    Args:
        fleet: What serves.
        names: What requests may name.
        router: Decides on requests for ``auto``.
    """

    def __init__(self, fleet: Fleet, names: Names, router: Router) -> None:
        self.fleet = fleet
        self._names = names
        self.router = router
        self.sessions = Sessions()

    @property
    def loaded(self) -> LoadedConfig:
        """The configuration that the fleet runs on now."""
        return self.fleet.loaded

    @property
    def names(self) -> Names:
        """The names of that configuration: the fleet takes another one before it has ended what left."""
        if self._names.loaded is not self.loaded:
            self._names = Names(self.loaded)
        return self._names

    def decide(self, job: Job, role: str | None) -> None:
        """Decide who answers.

        Args:
            job: Its data are there.
            role: A role that the request's header names, or None.

        Raises:
            UnknownModel: nothing of that name answers requests.
            UsageError: a workflow is asked for what is no chat.
            ContextExceeded: no model's context holds the prompt.
            Unavailable: no model can answer now.
        """
        named, names, messages = job.data.get("model") or ROLES.get(job.path, AUTO), self.names, job.messages
        job.target = target = names.of_role(role) if role else names.target(named)
        if target.workflow and job.path != CHAT:
            raise UsageError(f"the workflow {target.workflow[:100]!r} answers at /v1{CHAT} alone")
        session = self.sessions.find(messages, job.key) if messages else None
        if session is not None:
            job.session = session.id
        if target.auto:
            job.route = self.router.route(messages, bool(job.data.get("tools")))
            job.target = self._routed(job, job.route, session)

    def answered(self, job: Job) -> None:
        """Note who answered, so that the conversation goes on with its KV cache."""
        if job.session and job.endpoint is not None:
            self.sessions.bind(job.session, job.endpoint.model)

    def loading(self, target: Target) -> bool:
        """Whether the model that is preferred has to be started first."""
        member = self.fleet.members.get(target.models[0]) if target.models else None
        return member is not None and not (member.supervisor.ready and member.supervisor.alive)

    def _routed(self, job: Job, route: Route, session: Session | None) -> Target:
        names, tokens = self.names, job.size // BYTES_PER_TOKEN
        candidates = list(self._candidates(names.roles, tokens, route, session))
        kept_by = session.model if session else None
        choice = choose(route, candidates, prompt_tokens=tokens, session_model=kept_by)
        if choice.outcome == "too_long" and tokens < SURE * (choice.n_ctx or 0):
            # no more than an estimate: the model with the longest context counts
            choice = choose(route, candidates, prompt_tokens=choice.n_ctx or 0, session_model=kept_by)
        job.reason = route.reason
        if choice.role is None or choice.model is None:
            raise _nobody(choice)
        if choice.outcome == "instead":
            job.reason += f"; {choice.reason}"
        others = names.of_role(choice.role).models if choice.role in names.roles else ()
        return Target(choice.role, (choice.model, *[one for one in others if one != choice.model]))

    def _candidates(
        self, roles: Mapping[str, str], tokens: int, route: Route, session: Session | None
    ) -> Iterator[Candidate]:
        # the model that the conversation has may be asked in any of its roles
        kept_by = session.model if session else None
        own = [role for role, model in roles.items() if model == kept_by] if kept_by else []
        for role in dict.fromkeys((*route.allowed, route.role, *own)):
            if role in roles:
                yield self._candidate(role, roles[role], tokens if role in own else 0)

    def _candidate(self, role: str, name: str, kept: int) -> Candidate:
        config = self.loaded.config
        model, member = config.models[name], self.fleet.members.get(name)
        if member is None:
            return Candidate(role, name, n_ctx=model.context, vision=role == "vision", kept=kept)
        supervisor, waiting = member.supervisor, self.fleet.dispatcher.waiting(name)
        ready = supervisor.ready
        return Candidate(
            role,
            name,
            state=STATES.get(supervisor.state, "loading"),
            queue=waiting,
            wait=(waiting + max(0, member.uses.total + 1 - member.slots)) * SECONDS_EACH,
            queue_limit=config.router.max_queue,
            swap=member.load_seconds,
            n_ctx=(ready.n_ctx if ready else None) or model.context,
            vision=_sees(member, role),
            kept=kept,
        )


def _sees(member: Member, role: str) -> bool:
    ready = member.supervisor.ready
    known = ready.vision if ready else None
    return role == "vision" or bool(member.config.mmproj) if known is None else known


def _nobody(choice: Choice) -> Exception:
    """Why nobody answers, as an error that says what helps."""
    if choice.outcome == "too_long":
        return ContextExceeded(f"the prompt is too long: {choice.reason}", n_ctx=choice.n_ctx)
    if choice.outcome == "busy":
        return QueueFull(choice.reason, retry_after=RETRY_SECONDS)
    if choice.reason.startswith("no model serves"):
        return ConfigError(choice.reason, hint="add a model for one of them to benchai.yaml")
    return Unavailable(choice.reason, retry_after=RETRY_SECONDS)
