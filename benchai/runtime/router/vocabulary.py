"""The words by which a request is recognised, English and German: tables alone, without decisions.

A phrase is one or more words in small letters, without apostrophes; ``function(s)`` stands for function and
functions, ``priorit[y|ies]`` for priority and priorities. Phrases are looked up word by word, which is fast; a regex
runs over the whole text, so it begins with plain letters, or names in ``needs`` what a text must hold for it.
`benchai.runtime.router.reading` finds them, `route` and `rules` decide by what it finds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


def words(table: str) -> frozenset[str]:
    """The words of a table in which they are parted by spaces."""
    return frozenset(table.split())


INTENTS = ("code", "planner", "research", "vision", "general")


@dataclass(frozen=True)
class Signal:
    """What speaks for an intent: ``points`` for a first match, as many again for a second, different one.

    ``words`` are phrases, parted by ``|``; with ``opening`` they count only where a sentence begins. ``pattern`` is
    searched in the text if one of ``needs`` (small letters) stands there; no ``needs``: always.
    """

    intent: str
    name: str
    points: float
    words: str = ""
    opening: bool = False
    pattern: re.Pattern[str] | None = field(default=None)
    needs: tuple[str, ...] = ()


LANGUAGES = (
    "python|pyhton|javascript|typescript|java|rust|golang|kotlin|perl|php|ruby|swift|scala|haskell|bash|"
    "html|css|sql|fastapi|django|flask|node.js|nodejs|numpy|pandas|pytorch|tensorflow|regex|"
    "regular expression(s)|react component(s)|react app|c++|c#|powershell|lua|elixir|erlang|clojure|"
    "fortran|matlab|vba|assembly|zsh|jquery|vue|angular|svelte|tailwind|express|spring boot|rails|"
    "laravel|jax|pytest|junit|postgres|postgresql|mysql|sqlite|graphql|pl/sql|in go|in r|in julia|"
    "in zig|in dart|regulärer ausdruck|regulären ausdruck|reguläre ausdrücke"
)
TECHNOLOGIES = (
    "gitlab|github|bitbucket|jenkins|tomcat|awk|sed|jq|grep|xargs|ssh key(s)|chmod|sudo|systemctl|"
    "homebrew|apt get|conda|poetry|pipenv|jupyter|matplotlib|scipy|sklearn|scikit learn|keras|opencv|"
    "selenium|playwright|cypress|jest|mocha|vitest|vite|babel|prettier|next.js|nextjs|nuxt|deno|"
    "electron app|react native|flutter|jetpack compose|xcode|swiftui|uikit|objective c|.net|asp.net|"
    "entity framework|linq|blazor|godot|opengl|vulkan|cuda|glsl|arduino|raspberry pi|esp32|verilog|vhdl|"
    "cobol|abap|prolog|lisp|ocaml|f#|solidity|web3|mongodb|redis|elasticsearch|dynamodb|firebase|"
    "supabase|mariadb|bigquery|pyspark|hadoop|k8s|helm|istio|cloudformation|pulumi|docker compose|"
    "podman|vagrant|jwt|oauth|wordpress plugin|latex|regexp|vlookup|pivot table|google sheets formula|"
    "discord bot|telegram bot|slack bot|browser extension|userscript|vscode|vs code|intellij|pycharm|"
    "jvm|yarn|pnpm|htaccess|phpmyadmin|ffmpeg|imagemagick|sqlalchemy|pydantic|celery|gunicorn|uvicorn|"
    "prometheus|grafana|langchain|asyncio|multiprocessing|tkinter|pygame|beautifulsoup|scrapy|hibernate|"
    "lombok|tokio|serde|wasm|webassembly|grpc|protobuf|openapi|swagger|postman|dns record|regex101|tmux|"
    "crontab"
)
_CODE_THING = (
    "function(s)|funtion|fucntion|funktion(en)|method(s|en)|methode|unit test(s)|test(s)|script(s)|"
    "skript(e|s)|scirpt|linked list|class(es)|klasse(n)|module(s)|endpoint(s)|algorithm(s)|algorithmus|"
    "quicksort|mergesort|binary search|program(s)|programm|parser|lexer|tokenizer|compiler|interpreter|"
    "decorator(s)|dataclass(es)|type hint(s)|type annotation(s)|typannotationen|docstring(s)|"
    "error handling|fehlerbehandlung|api|query|queries|abfrage|database|dockerfile|makefile|web page|"
    "webpage|backend|frontend|crawler|scraper|web app|webapp|mobile app|chat app|chat bot|chatbot|"
    "smart contract|data structure|code|one liner|oneliner|config file|json schema|yaml file|struct|"
    "enum|github action(s)|workflow file|migration file|cron job|cronjob|systemd unit|helm chart|"
    "hash map|hashmap|state machine|regex|linter rule|macro|plugin|extension|middleware|binary tree|"
    "wrapper|cli tool|command line tool|excel formula|formula"
)
_PLAN = (
    "plan(s)|roadmap|schedule|timetable|agenda|itinerary|strategy|checklist|curriculum|routine|outline|"
    "ablauf|training program(me)|development program(me)|fitness program(me)|exercise program(me)|"
    "architecture|architektur|timeline|to do list|todo list|packing list|shopping list|work breakdown|"
    "milestones|backlog|tickets|concept|konzept|process|experiment|proposal|strategie|fahrplan|"
    "checkliste|packliste|budget"
)
_STUDY = "comparison|analysis|overview|literature review|deep dive|vergleich|analyse|überblick|survey|übersicht"
_TEXT = (
    "sentence(s)|paragraph(s)|text(s)|letter(s)|email(s)|e mail(s)|mail(s)|message(s)|reply|slogan(s)|"
    "essay(s)|poem(s)|haiku(s)|limerick(s)|sonnet(s)|story|stories|list(s)|note(s)|speech|toast|"
    "tweet(s)|headline(s)|title(s)|bio|card(s)|caption(s)|description(s)|advert(s)|ad(s)|article(s)|"
    "blog|blog post(s)|summary|report(s)|invitation(s)|song(s)|joke(s)|subject(s)|review(s)|dialogue|"
    "monologue|scene(s)|lyrics|pitch|announcement(s)|newsletter(s)|press release|chapter(s)|screenplay|"
    "documentation|copy|novel(s)|template(s)|abstract|introduction|obituary|eulogy|guide(s)|satz|brief|"
    "gedicht|aufsatz|geschichte|rede|einladung|nachricht|liste|notiz|cover letter|wish(es)|recipe(s)|"
    "rezept|name(s)|linkedin post|facebook post|instagram post|podcast script|movie script|video script|"
    "film script|play script|script for a video|script for a podcast|script for a play|"
    "script for a film|script for a movie|script for a talk|script for an episode|class trip|"
    "class teacher|class schedule|code of conduct|program for|list of|commit message(s)"
)
#: What may be made, by the intent that it speaks for; the longest phrase wins.
THINGS = {"code": f"{LANGUAGES}|{_CODE_THING}", "planner": _PLAN, "research": _STUDY, "general": _TEXT}
#: A thing whose name ends so: German compounds.
THING_ENDINGS = {
    "plan": "planner",
    "text": "general",
    "funktion": "code",
    "skript": "code",
    "klasse": "code",
    "abfrage": "code",
    "brief": "general",
    "strategie": "planner",
    "architektur": "planner",
}
#: What the text wants to be done to a thing.
MAKE = (
    "write|rewrite|wirte|wrtie|implement|implment|draft|compose|create|recreate|make|remake|give me|"
    "i need|we need|prepare|draw up|set up|put together|generate|build|rebuild|develop|design|redesign|"
    "craft|produce|construct|structure|come up with|add|convert|port|improve|edit|shorten|rephrase|"
    "proofread|polish|optimi[se|ze]|sketch|schreib(e)|erstell(e)|verfass(e)|entwirf|mach(e)|gib mir|"
    "brauch(e|en)|bau(e)|implementier(e)|programmier(e)|entwickle"
)
MADE_POINTS = {"code": 3.0, "planner": 3.0, "research": 2.0, "general": 4.0}

_PICTURE = "picture(s)|photo(s)|photograph(s)|image(s)|screenshot(s)|screen shot|pic(s)|jpeg|jpg|png|scan"
_BILD = "bild|bilder|foto|fotos|screenshot|diagramm|scan|grafik"
_THIS = "this|the|that|these|those|my|attached|two|first|second|following|in"
_DIES = "dieses|diesem|diesen|das|dem|im|angehängte|angehängten|mein|meinem"


def _product(first: str, second: str) -> str:
    return "|".join(f"{one} {other}" for one in first.split("|") for other in second.split("|"))


# fmt: off
SIGNALS = (
    Signal("code", "code verb", 3, "debug|refactor|refacor|fix the bug|fix the code|fix the loop|"
        "fix the function|fix the error|fix this error|fix this bug|fix this code|fix my code|"
        "vectori[se|ze] this|decompile|transpile|behebe|code review", opening=True),
    Signal("code", "code word", 2,
        "function(s)|funtion|fucntion|funktion(en)|method(s)|unit test(s)|recursion|recursive|debug(ger|"
        "ging|ged)|refactor(ed|ing|s)|compiler|compile(s|d)|endpoint(s)|this code|my code|your code|"
        "following code|source code|dieser code|diesen code|mein code|quellcode|bug(s)|git|docker|"
        "dockerfile|npm|pip install|cargo|gradle|maven|cmake|makefile|dataclass|stack trace|stacktrace|"
        "segfault(s)|segmentation fault|core dump|exit code|callback(s)|async|await|codebase|ci/cd|"
        "microservice(s)|database query|database queries|sql query|sql queries|predictive model|"
        "machine learning model|script(s)|skript(e)|scripte|scirpt|kubectl|terraform|ansible|nginx|"
        "systemd|webpack|eslint|mypy|ruff|websocket(s)|cors|preflight|null pointer|nullpointerexception|"
        "goroutine(s)|mutex|deadlock|race condition|memory leak|pointer(s)|linked list|hash map|"
        "binary tree|sorting algorithm|big o|leetcode|pull request(s)|merge conflict(s)|git commit|"
        "commit message|rebase|stash|localhost|stdin|stdout|json schema|type hint(s)|type annotation(s)|"
        "typannotationen|docstring(s)|decorator(s)|list comprehension|lambda|constructor|konstruktor|"
        "subclass|inheritance|useeffect|usestate|foreign key|stored procedure|orm|django model|"
        "undefined reference|syntax error|type error|compile error|compilation error|build fails|"
        "runtime error|off by one|regular expression|regulärer ausdruck|one liner|command line|"
        "shell command|bash command|vim|neovim|emacs|excel formula|boilerplate|api key|rest api|"
        "unit testing|mock(ed|ing)|fixture(s)|cron|crontab|virtualenv|venv|for loop|while loop|"
        "nested loop|iterator|generator function|dataframe|numpy array|2d array|null check|stacktraces|"
        "segfaulting|preprocessor|opcode|fehlermeldung beim"),
    Signal("code", "programming language", 1.5, LANGUAGES),
    Signal("code", "the language C", 1.5, pattern=re.compile(r" C\b(?!\.)(?:(?<=in C)|(?<=ng C)|(?= code| snippet|"
        r" program))")),
    Signal("code", "error message", 2, "traceback"),
    Signal("code", "error message", 2, pattern=re.compile(r"error(?:\[\w{1,20}\])?: ")),
    Signal("code", "error code", 2, pattern=re.compile(r"E\d{4}\b")),
    Signal("code", "error code", 2, pattern=re.compile(r"C\d{4}\b")),
    Signal("code", "error code", 2, pattern=re.compile(r"ORA-\d+")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"def \w{1,60}\(")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"for \w{1,30} in \w{1,30}\(")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"SELECT .{1,200}?\bFROM ")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"import \w{1,60}(?:$|\sfrom\b|\n)")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"public (?:class|static|void)\b")),
    Signal("code", "code statement", 1.5, pattern=re.compile(r"fu?nc?(?:tion)? \w{1,60}\(")),
    Signal("code", "the word code", 1, "code"),
    Signal("code", "technology", 1.5, TECHNOLOGIES),
    Signal("code", "word of programmers", 1, "variable(s)|array(s)|dict(s)|tuple(s)|integer(s)|"
        "boolean(s)|loop(s)|json|yaml|csv|xml|null|nil|parse(s|d)|parsing|runtime|repo(s)|repository|"
        "compile|algorithm(s)|hashmap(s)|struct(s)|enum(s)|stack overflow|crash(es|ed)|log file(s)|"
        "server logs|config file|return type|returns none|returns null|returns false|returns true|"
        "status code|404|500|502|403|401|timeout(s)|breakpoint(s)|snippet|source tree|iso dates|unicode|"
        "utf 8|hex|base64|uuid|hash|serialize|serialise|deserialize|makro(s)|trigger(s)|view model|"
        "viewmodel|front end|back end|command to|keyword|syntax|linter|type checker|test suite|"
        "the tests|tests pass|tests fail|in my program|my program|mein programm"),
    Signal("code", "weak code word", 0.5, "string(s)|dictionary|class(es)|library|libraries|import(s|"
        "ed)|branch|commit(s|ed)|stack|heap|thread(s)|container(s)|env|config|parameter(s)|argument(s)|"
        "logs|query|table|column(s)|request(s)|deploy(ed)|database|interface|duplicates|app|android|ios|"
        "website|web page|plugin|header|cookie(s)|int|float|char|byte(s)|nested|recursive|filter|sort|"
        "cells|spreadsheet|excel"),
    Signal("code", "source file", 1.5),
    Signal("code", "name in code", 1.0),
    Signal("code", "not yet code", -3, "no code|before you write any code|dont write code|without code|"
        "kein code|keinen code|code of conduct|dress code|qr code|area code"),
    Signal("planner", "planning verb", 3,
        "plan|organi[ze|se]|schedule|shedule|arrange|prioriti[ze|se]|outline|prepare|organisier(e)|"
        "decompose|break down|plane eine|plane einen|plane ein|plane die|plane den|plane das|plane mir|"
        "plane uns|allocate|priorisier(e)|sequence", opening=True),
    Signal("planner", "planning words", 2,
        "roadmap|milestone(s)|itinerary|timetable|action plan|project plan|projektplan|zeitplan|"
        "what steps|which steps|what are the steps|welche schritte|what do i do first|"
        "what do we do first|order to|strategy for|strategy to|migration strategy|"
        "how should i organi[ze|se]|how do i organi[ze|se]|how can i organi[ze|se]|go about|meal plan|"
        "training plan|training schedule|study plan|reading plan|business plan|lesson plan|"
        "marketing plan|work package(s)|critical path|sprint(s)|go to market|rollout|roll out|"
        "to do list|todo list|packing list|in which order|in what order|which order|welcher reihenfolge|"
        "welche reihenfolge|gehe ich am besten vor|wie gehen wir|vorgehen|how would you approach|"
        "how should we approach|how should we structure|how would you structure|what do i need to do|"
        "what do we need to do|list the steps|phases|stages|disaster recovery|incident response|"
        "arbeitspakete|meilensteine|propose options|think through|set up a plan|sub tasks|subtasks|"
        "system design|design the architecture|deliverables"),
    Signal("planner", "into parts", 2, pattern=re.compile(
        r"(?:break|split|divide|cut|teile)\b.{1,80}?\b(?:into|in)\s+(?:\w+ )?(?:tasks|steps|tickets|parts|phases|"
        r"sprints|schritte|aufgaben|stories)\b|break .{1,60} down\b", re.IGNORECASE),
        needs=("break ", "split ", "divide ", "teile ")),
    Signal("planner", "for so many", 2, pattern=re.compile(r"for \d{1,5} (?:people|persons|guests|kids|children)\b")),
    Signal("planner", "decision", 1.5, "should we|should i use|what would you do|give a decision|"
        "how should we|sollten wir|sollen wir"),
    Signal("planner", "a beginning", 1.5, "where do we start|where do i start|where to start|"
        "what to do first|first steps|how do i get started|who does what|small steps|wo fange ich an|"
        "wie fange ich an|how to migrate|how do we migrate|how do we introduce|how to introduce|"
        "how to replace|how to reorgani[ze|se]|step plan|zu organisieren|zu planen|workout|"
        "savings scheme|from scratch in|planen|suggest how|how do i fit|how can i fit|module by module|"
        "one by one"),
    Signal("planner", "proposal", 1.5, "propose|suggest a structure|suggest a process|work out|map out|"
        "lay out|think about how|think through|schlage|überlege dir wie", opening=True),
    Signal("planner", "a span of time", 0.7, pattern=re.compile(
        r"(?:in|for|within|over|next|per|every|first|innerhalb von) (?:\d{1,3}|one|two|three|four|six|a|the next) "
        r"?(?:days?|weeks?|months?|quarters?|years?|hours?|wochen|monaten?|tagen?)\b", re.IGNORECASE),
        needs=("day", "week", "month", "quarter", "year", "hour", "woche", "monat", "tage")),
    Signal("planner", "weak planning word", 1, "plan|step by step|schritt für schritt"),
    Signal("planner", "word of plans", 0.7, "schedule|budget|deadline(s)|timeline|strategy|architecture|"
        "requirements|priorit[y|ies]|estimate(s)|dependencies|rollback|scale|organi[ze|se]|weeks|months|"
        "quarters|project|projekt|agenda|goals|stakeholders|team|concept"),
    Signal("planner", "no plan", -3, "plan b|data plan|floor plan"),
    Signal("research", "comparison", 4, "compare|contrast|vergleich(e|en)", opening=True),
    Signal("research", "comparison", 4, "and compare|then compare|comparison of|vs|versus|"
        "which is better|what is better|which one is better|whats better|compared to|how do they differ|"
        "compare them|contrast them"),
    Signal("research", "comparison", 4, pattern=re.compile(
        r"differences? between\b(?! [\d-])|unterschiede? zwischen\b|how do(?:es)?\b.{1,100}\bcompare\b",
        re.IGNORECASE), needs=("difference", "unterschied", "compare")),
    Signal("research", "research verb", 5, "research|do some research|look into|find out about|"
        "investigate|find sources|recherchier(e)|look up|fact check|trace the origin|gather|"
        "collect statistics|collect data|search for|do a deep dive|search the web|google|find recent|"
        "find papers|find studies", opening=True),
    Signal("research", "analysis verb", 3, "analy[ze|se]|assess|evaluate|examine|analysier(e)|"
        "untersuch(e)", opening=True),
    Signal("research", "depth", 2, "in depth|in detail|thoroughly|deep dive|ausführlich|im detail|analysis"),
    Signal("research", "weak depth", 1, "detailed|thorough|comprehensive"),
    Signal("research", "word of research", 0.7, "which countries|europe|percentage|average|overview|"
        "timeline|history|figures|data on|laws|theories|origin(s)|regulate|regulation(s)|market|"
        "countries|consensus|debate|published|companies"),
    Signal("research", "sources", 2, "sources|reference(s)|citation(s)|cite|literature|evidence|study|"
        "studies|quellen|belege|state of research|paper(s)|arxiv|meta analysis|peer reviewed|"
        "aktuelle forschung|studien|statistics|statistiken|according to|state of the art|"
        "literature review|survey of|overview of|what is known|scientific consensus|with links|"
        "side effects|market size|market share|alternatives to|competitors|reviews of|background on|"
        "history of the|findings|summari[ze|se] this article|summari[ze|se] both sides"),
    Signal("research", "of today", 2, "latest|recent|currently|newest|release date|aktuell|aktuelle|"
        "aktuellen|what changed|this year|last year|inflation rate|inflationsrate|laws apply|as of today"),
    Signal("research", "what is known", 1.5, "trials|really cause|is it true that|how reliable|"
        "how effective|how accurate|how common|how safe|who funds|what happened to|"
        "what has been written|under which conditions|lately|recently|so far|to date|differences in|"
        "reasons for|reason for the decline|effects of|effect of|effects on|effect on|impact on|"
        "influence of|consequences of|on both sides|with numbers|surveys|interviews|scientists|"
        "researchers|experts say|meta analyses|evidence based|origin of|auswirkungen|gründe für|"
        "laut studien|forscher|wissenschaftler|experiments|current state of|documented|published|"
        "data from|figures for"),
    Signal("research", "a year", 1, pattern=re.compile(
        r"(?:since|before|after|until|between|by|seit|ab) (?:19|20)\d\d\b"),
        needs=(" 19", " 20")),
    Signal("research", "an address", 2, pattern=re.compile(r"https?://(?!localhost|127\.|\[)\w"), needs=("http",)),
    Signal("research", "weighing", 2, "pros and cons|advantages|disadvantages|vor und nachteile|"
        "trade off(s)|tradeoff(s)|trends|correlation|statistical significance|impact of|causes of|"
        "implications|ursachen|arguments for|for and against|how do they differ|both sides"),
    Signal("vision", "a picture", 3, "|".join((_product(_THIS, _PICTURE), _product(_DIES, _BILD)))),
    Signal("vision", "a picture of", 1.5, "photo of|photos of|picture of|pictures of|screenshot of|"
        "image of|images of|scan of|foto von|fotos von|bild von|screenshot|screenshots|snapshot|"
        "whiteboard picture|my pic|selfie"),
    Signal("vision", "attached", 1, "attached|see attachment|attachment|angehängt|im anhang"),
    Signal("vision", "what is seen", 3, "ocr|do you see|can you see|what do you see|see photo|"
        "see picture|see image|see screenshot|siehst du|handwritten|picture attached|photo attached|"
        "image attached|attached chart|attached diagram|diagram i attached|in the attachment|"
        "scanned page|on the photo|auf dem bild"),
    Signal("vision", "picture file", 3),
    Signal("vision", "weak picture word", 0.7, f"{_PICTURE}|{_BILD}|diagram|chart|wireframe|logo|colo[r|ur]|"
        f"caption|"
        "font|receipt|sign|gauge|floor plan|angehängt|describe|transcribe"),
    Signal("vision", "no picture", -4, "docker image|container image|rename|big picture"),
    Signal("general", "small talk", 3, "hello|hi|hey|thanks|thank you|good morning|good evening|hallo|"
        "danke|guten morgen|guten abend|good night|lol|bye|ok|okay|thx|cheers", opening=True),
    Signal("general", "writing verb", 1.5, "write|draft|compose|rewrite|rephrase|verfass(e)|schreib(e)", opening=True),
    Signal("general", "language", 3, "translate|rephrase|proofread|reword|paraphrase|übersetz(e)|"
        "formulier(e)|correct the grammar|spell|umformulieren|pretend|roleplay|role play|tell me a joke|"
        "correct this sentence",
        opening=True),
    Signal("general", "everyday", 2, "synonym(s)|recipe(s)|rezept|joke(s)|witz|rhyme(s)|poem|gedicht|"
        "haiku|capital of|hauptstadt|how are you|who are you|what can you do|wie gehts|meaning of life|"
        "recommend me|more formal|plural of|bedtime story|in simple words|eulogy|cover letter|"
        "short story|limerick|lyrics|horoscope|what does it mean|was bedeutet|i feel|in french|"
        "in spanish|in italian|in german|to spanish|to french|to german|to italian|ins englische|"
        "ins deutsche|auf englisch|job interview|etiquette"),
    Signal("general", "files", 3, "which files|what files"),
    Signal("general", "files", 3, pattern=re.compile(r"\b(?:list|show|read|open|print)\b.{0,40}?\b(?:files?|"
        r"folder)\b",
        re.IGNORECASE), needs=(" file", " folder")),
    Signal("general", "arithmetic", 3, "calculate|berechne"),
    Signal("general", "arithmetic", 3, pattern=re.compile(
        r"\d\s?(?:[+*×^]{1,2}|plus|times|mal|% of)\s?\d|\d\s?(?:minus|divided by|durch|\s[-/]\s)\s?\d|"
        r"\d[-/]\d{1,3}\s?[=?]")),
    Signal("general", "time", 3, "what time is it|what day is it|what date is it|wie spät|the time|what time"),
    Signal("general", "no time of day", -3, "time complexity|time series|the time zone|first time|the time being"),
)
# fmt: on

#: Signs that stand in code and hardly in prose.
SYNTAX = ("==", "!=", "=>", "+=", "::", "</", "#include", ";\n", ") {", "){", "curl -", "();", "&&")
#: Verbs whose object may be a file.
FILE_VERBS = frozenset(("list", "show", "read", "open", "print"))
SOURCE_ENDINGS = words("py js ts tsx jsx java cpp hpp rs go sh sql rb php kt cs c h ps1 lua ipynb toml gradle")
PICTURE_ENDINGS = words("jpg jpeg png gif webp bmp tiff heic")
