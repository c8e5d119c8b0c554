"""The words by which a request is recognised, English and German: expressions alone, without decisions.

`benchai.runtime.router.route` decides by what they find.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Signal:
    """What speaks for an intent: ``points`` for a first match, as many again for a second, different one."""

    intent: str
    name: str
    points: float
    pattern: re.Pattern[str]


_START = (
    r"(?:\A|[.!?:;\n])\W{0,4}(?:(?:please|bitte|now|then|can you|could you|would you|help me(?: to)?|i want to|"
    r"i want you to|let's|kannst du|quickly|just)\s{1,3}){0,3}"
)
_MAKE = (
    r"(?:re)?write|wirte|wrtie|implement|implment|draft|compose|create|make|give me|i need|we need|prepare|draw up|"
    r"set up|put together|generate|build|develop|design|craft|produce|construct|structure|come up with|add|convert|"
    r"port|improve|edit|shorten|rephrase|proofread|polish|"
    r"schreibe?|erstelle?|verfasse?|entwirf|mach|gib mir|brauchen?|baue?|implementiere?|programmiere?"
)
_LANGUAGE = (
    r"python|pyhton|javascript|typescript|java|rust|golang|kotlin|perl|php|ruby|swift|scala|haskell|bash|html|css|sql|"
    r"fastapi|django|flask|node\.?js|numpy|pandas|pytorch|tensorflow|regex|regular expression|"
    r"react (?:component|app\w{0,9})"
)
# a script may also be spoken
_SCRIPT = (
    r"(?<!podcast )(?<!movie )(?<!video )s[ck]ripte?s?"
    r"(?! for an? (?:\w{1,20} )?(?:video|podcast|play|film|movie|episode|talk))"
)
_CODE_THING = (
    rf"functions?|funtion|fucntion|funktion(?:en)?|methods?|methoden?|(?:unit )?tests?|{_SCRIPT}|linked list|"
    r"class(?:es)?(?! trip| photo| teacher| schedule)|modules?(?! \d)|endpoint|algorithm\w{0,3}|quicksort|mergesort|"
    r"binary search|programm?(?! for)|parser|decorator|dataclass|type hints|error handling|api|query|queries|database|"
    r"dockerfile|makefile|web ?page|backend|frontend|crawler|scraper|(?:web|mobile|chat) ?(?:app|bot)|smart contract|"
    r"data structure|code(?! of conduct)"
)
_PLAN = (
    r"\w{0,12}plan|roadmap|schedule|timetable|agenda|itinerary|strategy|checklist|curriculum|routine|outline|ablauf|"
    r"(?:training|development|fitness|exercise) programm?e?"
)
_STUDY = r"comparison|analysis|overview|literature review|deep dive|vergleich|analyse|überblick"
_TEXT = (
    r"sentences?|paragraph|\w{0,20}text|letter|e-?mail|mail|message|reply|slogan|essay|poem|haiku|limerick|sonnet|"
    r"story|list(?! of (?:all )?(?:the )?files)|note|speech|toast|tweet|headline|title|bio|card|caption|description|"
    r"advert|ad|article|blog|blog post|summary|report|invitation|song|joke|subject|review|script|dialogue|monologue|"
    r"scene|lyrics|pitch|announcement|newsletter|press release|chapter|screenplay|documentation|copy|novel|template|"
    r"abstract|introduction|obituary|guide|satz|brief|gedicht|aufsatz|geschichte|rede|einladung|nachricht|liste|notiz"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


def _opening(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"{_START}(?:{pattern})\b", re.IGNORECASE)


# the nearest thing after the verb says what is to be made: "a poem about Python" is no code
MADE = _words(
    rf"(?:{_MAKE})(?:\W{{1,3}}\w{{1,30}}){{0,6}}?\W{{1,3}}"
    rf"(?:(?P<code>{_LANGUAGE}|{_CODE_THING})|(?P<planner>{_PLAN})|(?P<research>{_STUDY})|(?P<general>(?:{_TEXT})s?))"
)
COMPARE = re.compile(
    rf"{_START}(?:compare|contrast|vergleich\w{{0,3}})\b|\b(?:and|then) compare\b|\bcomparison of\b|"
    r"\b(?:vs\.?|versus)(?=\s)|\bdifferences? between\b(?! [\d-])|\bunterschiede? zwischen\b|"
    r"\bhow do(?:es)?\b.{1,100}\bcompare\b|\b(?:which|what)(?: one)? is better\b",
    re.IGNORECASE,
)
WRITE_TEXT = _opening("write|draft|compose|rewrite|rephrase|verfasse?|schreibe?")

# fmt: off
SIGNALS = (
    Signal("code", "code verb", 3, _opening("debug|refactor|refacor|fix the (?:bug|code|loop|function|error)")),
    Signal("code", "code word", 2, _words(
        r"function|funtion|fucntion|funktion|method|unit tests?|regex|recursion|debug\w{0,4}|refactor\w{0,4}|compiler|"
        r"endpoint|(?:this|my|your|following|source|dieser|diesen|mein) code|quellcode|bugs?|git|docker|npm|dataclass|"
        rf"stack trace|segfault|segmentation fault|exit code|{_SCRIPT}|callbacks?|async|codebase|ci/cd|microservices?|"
        r"(?:database|sql) quer(?:y|ies)|predictive model|machine learning model")),
    Signal("code", "programming language", 1.5, _words(_LANGUAGE + r"|c\+\+|(?-i:in C)")),
    Signal("code", "error message", 2, re.compile(r"\bTraceback\b|\b[A-Z]\w{1,40}(?:Error|Exception)\b")),
    Signal("code", "code syntax", 1.5, re.compile(
        r"\b[a-z_]\w{1,40}\([^()\n]{0,80}\)|\bdef \w|\bfor \w{1,30} in \w{1,30}\(|[=!]=[^=]|=>|;\s{0,4}$|"
        r"\bSELECT\b.{1,80}\bFROM\b|\w\s?\+=\s?\w", re.MULTILINE)),
    Signal("code", "the word code", 1, _words("code(?! of conduct)")),
    Signal("code", "source file", 1, re.compile(r"\w\.(?:py|js|ts|java|cpp|rs|go|sh|sql)\b")),
    Signal("planner", "planning verb", 3, _opening(
        r"plan|organi[sz]e|schedule|shedule|arrange|prioriti[sz]e|outline|prepare|organisiere?|"
        r"plane (?:eine?n?|die|den|das|mir|uns)")),
    Signal("planner", "planning words", 2, _words(
        r"roadmap|milestones?|itinerary|timetable|action plan|project plan|zeitplan|(?:what|which) steps|"
        r"welche schritte|break .{1,80}? into (?:tasks|steps)|what do (?:i|we) do first|order to|strategy for|"
        r"how (?:do|should|can) (?:i|we) (?:organi[sz]e|go about)|for \d{1,5} people")),
    Signal("planner", "weak planning word", 1, _words("plan|step[- ]by[- ]step|schritt für schritt")),
    Signal("research", "comparison", 4, COMPARE),
    Signal("research", "research verb", 5, _opening(
        r"(?:do some )?research|look into|find out about|investigate|find sources|recherchiere?")),
    Signal("research", "analysis verb", 3, _opening(
        r"analy[sz]e|assess|evaluate|examine|analysiere?|untersuche?")),
    Signal("research", "depth", 2, _words(
        r"in[- ]depth|in detail|thoroughly|deep dive|ausführlich|im detail|analysis")),
    Signal("research", "weak depth", 1, _words("detailed|thorough|comprehensive")),
    Signal("research", "sources", 2, _words(
        r"sources|references|citations?|cite|literature|evidence|studies|quellen|belege|state of research")),
    Signal("research", "weighing", 2, _words(
        r"pros and cons|advantages|disadvantages|vor- und nachteile|trade-?offs|trends|correlation|"
        r"statistical significance|impact of|causes of|implications|ursachen")),
    Signal("general", "small talk", 3, _opening(
        r"hello|hi|hey|thanks|thank you|good (?:morning|evening)|hallo|danke")),
    Signal("general", "writing verb", 1.5, WRITE_TEXT),
    Signal("general", "files", 3, re.compile(
        r"\b(?:list|show|read|open|print)\b.{0,40}(?:\bfiles?\b|\bfolder\b|\w\.\w{1,5}\b)|\b(?:which|what) files\b",
        re.IGNORECASE)),
    Signal("general", "arithmetic", 3, re.compile(
        r"\b(?:calculate|berechne)|\d\s?[-+*/×^]\s?\d|\d (?:plus|minus|times|divided by|mal|durch) \d", re.IGNORECASE)),
    Signal("general", "time", 3, _words(r"what (?:time|day|date) is it|wie spät|the time")),
)
# fmt: on
MADE_POINTS = {"code": 3.0, "planner": 3.0, "research": 2.0, "general": 4.0}
TERMS = _words(
    r"algorithms?|api|architecture|async|authentication|bandwidth|benchmarks?|cache|cluster|compiler|concurren\w{2,3}|"
    r"container|cpu|database|datenbank|deploy\w{0,4}|distributed|encryption|endpoint|framework|gpu|http|index|inference|"
    r"interface|json|kernel|kubernetes|latency|load balanc\w{2,3}|memory|microservices?|model|mutex|network|"
    r"optimi[sz]\w{1,6}|parallel|performance|pipeline|protocol|quanti[sz]\w{1,6}|query|queue|replication|scal\w{2,8}|schema|server|"
    r"sharding|sql|statistical|tensor|thread\w{0,3}|throughput|token\w{0,4}|transaction|vector"
)
CONJUNCTION = _words(
    r"and then|then|after that|afterwards|finally|once (?:that|this) is done|und dann|danach|anschließend|zum schluss"
)
_TASK = (
    r"list|read|calculate|compute|plan|write|find|tell me|compare|translate|summari[sz]e|show|search|check|explain|"
    r"describe|collect|sort|count|create|implement|draft|review|merge|berechne|schreibe?|finde|lies|erkläre?"
)
CLAUSE = re.compile(
    rf"(?:\A|[.!?:;,\n]|\band\b|\bthen\b|\bund\b|\bdann\b)[\s\d.)*-]{{0,6}}(?:and |then |please )?"
    rf"(?:{_TASK}|what|who|how|when|where|why|which|was|wer|wie|wann|wo|warum)\b",
    re.IGNORECASE,
)
SEVERAL = _words(
    r"(?:two|three|four|five|several|zwei|drei|vier) (?:\w{1,20} )?(?:functions|classes|scripts|modules|programs|texts|"
    r"letters|poems|things|tasks|questions|funktionen|klassen|dinge)|review both|and (?:also )?a function|"
    r"(?:and|then) add (?:the results|them up)"
)
EACH = _words(r"an? (?:\w{1,20} ){0,2}(?:class|function|script|module)|the time in|eine (?:klasse|funktion)")
_OPERATOR = r"(?:\s(?:[-+*/x×^]{1,2}|plus|minus|times|over|less|divided by|mal|durch)\s|[*+^×]{1,2})"
# what "=" follows is calculated already
EXPRESSION = re.compile(
    rf"\d[\d.]{{0,15}}(?:{_OPERATOR}\(?\d[\d.]{{0,15}}\)?){{1,40}}(?![\s\d.=*+/^×-]{{0,60}}=)|"
    r"\b(?:sum|difference|product|quotient) (?:of|between) -?\d[\d.]{0,15} and -?\d",
    re.IGNORECASE,
)
CRITERIA = _words(
    r"criteri(?:a|on)|kriteri\w{1,3}|requirements?|constraints?|anforderungen|must(?!-)|muss|müssen|ha(?:s|ve) to|"
    r"score it|scores? (?:at least|above|\d{1,3})|rate it|out of 10|bewerte\w{0,2}"
)
WRITE_CODE = _opening(
    r"(?:\w{1,20} and )?(?:write|wirte|wrtie|implement|implment|refactor|refacor|fix|debug|optimi[sz]e|rewrite|create|"
    r"build|develop|add|convert|port|set up|improve|define (?=\w{1,40}\(|an? (?:\w{1,20} )?function)|schreibe?|"
    r"erstelle?|implementiere?|programmiere?|behebe?)"
)
QUESTION = re.compile(
    r"\A\W{0,3}(?:how|what|why|when|where|which|who|is|are|does|do|should|explain|wie|was|warum|wann|erklär)",
    re.IGNORECASE,
)
