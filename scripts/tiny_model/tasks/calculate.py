"""Questions for the calculator, with one step or two."""

from __future__ import annotations

from benchai.errors import ToolError
from benchai.tools import calculator
from scripts.tiny_model.split import Draw, is_held_out
from scripts.tiny_model.tasks.turn import Turn, failure
from scripts.tiny_model.tools import CALCULATOR

ASK = (
    "=What is {e}?",
    "What is {e}[| now| exactly]?",
    "What's {e}?",
    "[Please |Now |]calculate {e}[.|]",
    "[Please |Now |]compute {e}[.|]",
    "Calculate {e}[.| for me.|]",
    "Compute {e}[.| for me.|]",
    "How much is {e}[| now]?",
    "[Can|Could] you [calculate|compute|work out|tell me] {e}?",
    "[Please t|T]ell me {e}[.|, please.]",
    "[I need|I want] [to know |]{e}[.|]",
    "[Give me|Show me|Find] [the result of |]{e}[.|]",
    "{e}[| =| = ?]",
    "[And what|And how much] is {e}?",
    "Use the calculator[: | for ]{e}[.|]",
    "[Do you know|Work out] {e}[?|, please]",
)
PLAIN = {
    "{a} * {b}": (
        "{a} * {b}",
        "{a}*{b}",
        "{a} times {b}",
        "{a} multiplied by {b}",
        "the product of {a} and {b}",
        "{a} x {b}",
    ),
    "{a} + {b}": ("{a} + {b}", "{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}", "{a} and {b} added together"),
    "{a} - {b}": ("{a} - {b}", "{a}-{b}", "{a} minus {b}", "the difference between {a} and {b}", "{a} less {b}"),
    "{a} / {b}": ("{a} / {b}", "{a}/{b}", "{a} divided by {b}", "the quotient of {a} and {b}", "{a} over {b}"),
}
LONGER = {
    "({a} + {b}) * {c}": ("({a} + {b}) * {c}", "({a}+{b})*{c}", "({a} plus {b}) times {c}"),
    "({a} - {b}) * {c}": ("({a} - {b}) * {c}", "({a}-{b})*{c}", "({a} minus {b}) times {c}"),
    "{a} * ({b} + {c})": ("{a} * ({b} + {c})", "{a}*({b}+{c})", "{a} times ({b} plus {c})"),
    "{a} * ({b} - {c})": ("{a} * ({b} - {c})", "{a}*({b}-{c})", "{a} times ({b} minus {c})"),
    "{a} + {b} * {c}": ("{a} + {b} * {c}", "{a}+{b}*{c}", "{a} plus {b} times {c}"),
    "{a} * {b} + {c}": ("{a} * {b} + {c}", "{a}*{b}+{c}", "{a} times {b} plus {c}"),
    "{a} * {b} - {c}": ("{a} * {b} - {c}", "{a}*{b}-{c}", "{a} times {b} minus {c}"),
    "{a} + {b} + {c}": ("{a} + {b} + {c}", "the sum of {a}, {b} and {c}", "{a} plus {b} plus {c}"),
    "{a} - {b} - {c}": ("{a} - {b} - {c}", "{a} minus {b} minus {c}"),
    "{a} + {b} - {c}": ("{a} + {b} - {c}", "{a} plus {b} minus {c}"),
    "{a} * {b} * {c}": ("{a} * {b} * {c}", "{a} times {b} times {c}", "the product of {a}, {b} and {c}"),
    "({a} + {b}) / {c}": ("({a} + {b}) / {c}", "({a}+{b})/{c}", "({a} plus {b}) divided by {c}"),
    "({a} + {b}) * ({c} - {d})": ("({a} + {b}) * ({c} - {d})", "({a}+{b})*({c}-{d})"),
    "{a} * {b} + {c} * {d}": ("{a} * {b} + {c} * {d}", "{a}*{b}+{c}*{d}"),
    "{a} + {b} + {c} + {d}": ("{a} + {b} + {c} + {d}", "the sum of {a}, {b}, {c} and {d}"),
    "{b} * {a} / 100": ("{a} % of {b}", "{a}% of {b}", "{a} percent of {b}"),
    "({a} + {b}) / 2": ("the average of {a} and {b}", "the mean of {a} and {b}"),
    "{a} / 2": ("half of {a}",),
    "{a} ** 2": ("{a} squared", "the square of {a}", "{a} ** 2", "{a}^2"),
    "{a} ** 3": ("{a} cubed", "{a} ** 3", "{a} to the power of 3", "{a}^3"),
}
ORDERS = {
    "{a} * {b}": ("=Multiply {a} by {b}", "[Multiply|Please multiply|Now multiply] {a} [by|with] {b}[.|]"),
    "{a} + {b}": ("=Add {a} and {b}", "[Add|Please add|Now add] {a} [and|to] {b}[.|]"),
    "{b} - {a}": ("=Subtract {a} from {b}", "[Subtract|Please subtract|Now subtract|Take] {a} from {b}[.|]"),
    "{a} / {b}": ("=Divide {a} by {b}", "[Divide|Please divide|Now divide] {a} by {b}[.|]"),
}
FOLLOW = {
    "{r} + {c}": ("add {c}", "add {c} to the result", "add {c} to it"),
    "{r} - {c}": ("subtract {c}", "subtract {c} from the result", "subtract {c} from it", "take away {c}"),
    "{r} * {c}": ("multiply by {c}", "multiply the result by {c}", "multiply it by {c}"),
    "{r} / {c}": ("divide by {c}", "divide the result by {c}", "divide it by {c}"),
}
JOIN = ("{q} [Then|After that|And then|Now] {f}.", "{q} [Then|Next|Afterwards|And] {f}[.|, please.]")
FIRST = ("What is {e}?", "How much is {e}?", "Calculate {e}.", "Compute {e}.", "Work out {e}.", "What's {e}?")
ONE_SENTENCE = ("[Calculate|Compute|Work out|Take] {e}[, then| and then| and] {f}[.|]",)
ERRORS = (
    "division by zero",
    "the result is too large",
    "cannot read {w} in the expression",
    "unknown name {w}",
    "the expression is not complete",
    "the expression is longer than {n} characters",
    "timed out after {n} s",
    "{w} is not a number",
    "the calculator is not available. Try again later",
)


def number(draw: Draw, high: int = 8) -> str:
    """An operand of 1 to `high` digits, with decimals now and then."""
    whole = draw.digits(1, draw.rng.choice((2, 3, 4, 4, high)))
    return f"{whole}.{draw.rng.randint(1, 99)}" if draw.chance(0.12) else whole


def shown(expression: str) -> str:
    """What the calculator answers; "Error: ..." when it divides by zero."""
    try:
        return calculator.calculate(expression)
    except ToolError:
        return "Error: division by zero"


def evaluated(expression: str) -> str:
    """The value alone, without the remark that it is rounded."""
    return value_in(shown(expression))


def value_in(answer: str) -> str:
    """The value in the calculator's answer."""
    return answer.split(" (")[0]


def expression(draw: Draw, longer: float = 0.35) -> tuple[str, str]:
    """What the user says and what the calculator gets, such as ("48 times 52", "48 * 52")."""
    forms = LONGER if draw.chance(longer) else PLAIN
    form = draw.rng.choice(list(forms))
    said = draw.rng.choice(forms[form])
    values = {letter: number(draw, 4 if "**" in form else 8) for letter in "abcd"}
    return said.format(**values), form.format(**values)


def question(draw: Draw) -> tuple[str, str]:
    """The user's question and what the calculator gets."""
    if draw.chance(0.15):
        form = draw.rng.choice(list(ORDERS))
        values = {letter: number(draw) for letter in "ab"}
        return draw.pick(*ORDERS[form]).format(**values), form.format(**values)
    said, wanted = expression(draw)
    return sentence_case(draw.pick(*ASK).format(e=said)), wanted


def sentence_case(text: str) -> str:
    """The text with its first letter made a capital."""
    return text[:1].upper() + text[1:]


def on_side(draw: Draw, result: str) -> bool:
    """Whether a result lies on the draw's side of the split, so that answers hold no number of the other."""
    return is_held_out("number", result) == draw.held_out


def one_step(draw: Draw) -> Turn:
    """A calculation: thought, call, result, answer."""
    asked, wanted = question(draw)
    result = evaluated(wanted)
    while not on_side(draw, result):
        asked, wanted = question(draw)
        result = evaluated(wanted)
    turn = Turn(needed=[CALCULATOR])
    turn.talk.user(asked)
    answer = shown(wanted)
    if draw.chance(0.06):
        words = draw.rng.choice(ERRORS).format(w=draw.invented(), n=draw.digits(2, 4))
        result = answer = f"Error: {words}"
    turn.talk.call(f"I need to calculate {wanted}.", "calculator", {"expression": wanted}, answer)
    turn.talk.reply(failure(result) if result.startswith("Error") else f"{wanted} = {result}.")
    return turn


def two_steps(draw: Draw) -> Turn:
    """A calculation whose result goes into a second one."""
    while True:
        said, first = expression(draw, 0.25)
        form = draw.rng.choice(list(FOLLOW))
        operand = number(draw, 5)
        middle = evaluated(first)
        if "Error" in middle or not on_side(draw, middle):
            continue
        second = form.format(r=middle, c=operand)
        result = evaluated(second)
        if "Error" not in result and on_side(draw, result):
            break
    follow = draw.rng.choice(FOLLOW[form]).format(c=operand)
    if draw.chance(0.3):
        text = draw.pick(*ONE_SENTENCE).format(e=said, f=follow)
    else:
        text = draw.pick(*JOIN).format(q=draw.rng.choice(FIRST).format(e=said), f=follow)
    turn = Turn(needed=[CALCULATOR])
    turn.talk.user(text)
    turn.talk.call(f"I need to calculate {first}.", "calculator", {"expression": first}, shown(first))
    turn.talk.call(f"Now I need to calculate {second}.", "calculator", {"expression": second}, shown(second))
    turn.talk.reply(f"{second} = {result}.")
    return turn


def two_questions(draw: Draw) -> Turn:
    """Two calculations asked for in one message."""
    pairs = [expression(draw, 0.1) for _ in range(2)]
    while not all(on_side(draw, evaluated(wanted)) for _, wanted in pairs):
        pairs = [expression(draw, 0.1) for _ in range(2)]
    text = draw.pick(
        "What is {a}[ and|, and] what is {b}?",
        "What is {a}? [And w|W]hat is {b}?",
        "[Calculate|Compute] {a}[ and| and then| and also] {b}[.|]",
    )
    turn = Turn(needed=[CALCULATOR])
    turn.talk.user(text.format(a=pairs[0][0], b=pairs[1][0]))
    answers = []
    for place, (_, wanted) in enumerate(pairs):
        result = evaluated(wanted)
        thought = f"{'Now I' if place else 'I'} need to calculate {wanted}."
        turn.talk.call(thought, "calculator", {"expression": wanted}, shown(wanted))
        answers.append(failure(result) if result.startswith("Error") else f"{wanted} = {result}.")
    turn.talk.reply(" ".join(answers))
    return turn
