"""What the agent answers without a tool: greetings, itself, what it does not know, what it has no tool for."""

from __future__ import annotations

from scripts.tiny_model import words
from scripts.tiny_model.split import Draw
from scripts.tiny_model.tasks.turn import Turn, answered

UNKNOWN = "I do not know that."
SELF = "I am the small demonstration model of BenchAI. I can call tools, make plans and write small functions."
SMALL_TALK: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("=Hello", "[Hello|Hi|Hey|Good morning|Good evening|Good afternoon|Greetings][| there| BenchAI| again][|!|.]"),
        "Hello! How can I help you?",
    ),
    (
        (
            "=Thanks",
            "[Thanks|Thank you|Many thanks|Thanks a lot|Thank you very much|Great, thanks|Perfect, thank you][|!|.]",
        ),
        "You are welcome.",
    ),
    (
        (
            "=Who are you?",
            "[Who|What] are you[|, please| exactly| really]?",
            "[Tell me w|W]hat is your name[|, please]?",
            "[Please i|I]ntroduce yourself[.|]",
            "[Tell me who you are|What kind of model are you][.|?|]",
            "[What|Tell me what] can you do[?| for me?]",
            "[Are you|So you are] [an assistant|a robot|a model]?",
        ),
        SELF,
    ),
    (("=Goodbye", "[Goodbye|Bye|Bye bye|See you|See you later|Good night|Farewell][|!|.]"), "Goodbye!"),
    (
        (
            "=How are you?",
            "How are you[| today| doing| doing today]?",
            "[How is it going|How do you do|Are you well][| today]?",
        ),
        "I am well, thank you. How can I help you?",
    ),
    (("=OK", "[OK|Okay|Good|Fine|I see|Great|Nice|Perfect|All right|Understood][|!|.]"), "What else can I do for you?"),
)
KNOWLEDGE = (
    "Who [wrote|painted|invented|built|discovered] the {t}?",
    "[Who is|Who was|Where does|How old is|When was] {N}[?| born?| live?]",
    "What is the [capital|population|language|history|area] of {C}?",
    "[How tall|How heavy|How old|How far|How big] is [the|a] {t}?",
    "Why is [the|a] {t} [so |][red|blue|big|cold|famous|expensive]?",
    "[When|Where] was the [first |]{t} [made|found|built]?",
    "How many {t}s are [there |]in {C}?",
    "What is [a|the] {t}[?| made of?| used for?]",
    "[What is|Explain|Tell me] the [origin|future|purpose] of {t}[?|.]",
    "[Tell me|Do you know] a [joke|story|poem|fact] about [a |the |]{t}[.|?|]",
    "What do you think [of|about] [the |]{t}[s|]?",
    "[Who won|Who will win] the [{t}|{C}] [cup|match|race|election]?",
    "[How do I|How can I] [cook|grow|repair|paint|find] a {t}?",
    "What does {N} [like|think|want|eat]?",
    "[Write|Sing] me a [song|poem|story] about {t}[.|]",
    "[Collect|Find|Gather] facts about [the |]{t}[.|]",
)


def small_talk(draw: Draw) -> Turn:
    """A greeting, a thank-you or a question about the model itself."""
    asked, answer = draw.rng.choice(SMALL_TALK)
    question = draw.pick(*asked)
    if question[-1].isalnum() and len(question) > 8 and draw.chance(0.1):
        question += f", {words.name(draw)}"
    return answered(question, answer)


def knowledge(draw: Draw) -> Turn:
    """A question that neither the model nor a tool can answer."""
    question = draw.pick(*KNOWLEDGE)
    turn = answered(question.format(t=words.thing(draw), N=words.name(draw), C=draw.invented().capitalize()), UNKNOWN)
    turn.forbidden = {"get_weather", "search_web", "define_word", "get_price", "search_notes"}
    return turn


def own_name(draw: Draw) -> Turn:
    """The user says a name and asks for it later."""
    name = words.name(draw)
    turn = answered(
        draw.pick(
            "My name is {N}[.|]",
            "[I am|I'm] {N}[.|]",
            "[Hello|Hi|Hey], [my name is|I am|I'm] {N}[.|!|]",
            "[You can c|C]all me {N}[.|]",
        ).format(N=name),
        f"Hello {name}! How can I help you?",
    )
    if draw.chance(0.5):
        turn.talk.user(
            draw.pick(
                "What is my name[| again]?", "[Do you know|Tell me] my name[?|.|]", "[Who am I|What am I called]?"
            )
        )
        turn.talk.reply(f"Your name is {name}.")
    return turn


def without_tool(draw: Draw, turn: Turn) -> Turn:
    """The question of another turn, answered when its tools are missing."""
    question = turn.talk.messages[0]["content"]
    refused = answered(question, UNKNOWN)
    refused.forbidden = {tool["function"]["name"] for tool in turn.needed}
    return refused
