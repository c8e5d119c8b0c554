"""How people put things: words that order, ask, greet, join on and refer back; tables alone, as in `vocabulary`."""

from __future__ import annotations

from benchai.runtime.router.vocabulary import words

#: Words of a trade: each different one adds to the complexity.
TERMS = (
    "algorithm(s)|api|apis|architecture|async|authentication|bandwidth|benchmark(s)|cache(s)|cluster(s)|"
    "compiler|concurrent|concurrency|container(s)|cpu|database(s)|datenbank(en)|deploy(s|ed|ing|ment)|"
    "distributed|encryption|endpoint(s)|framework(s)|gpu|http|index(es)|inference|interface(s)|json|"
    "kernel|kubernetes|latency|load balancer|load balancing|memory|microservice(s)|model(s)|mutex|"
    "network(s)|optimi[ze|se|zed|sed|zation|sation]|parallel|performance|pipeline(s)|protocol(s)|"
    "quanti[ze|se|zed|sed|zation|sation]|query|queries|queue(s)|replication|scal[e|es|ing|ability|able]|"
    "schema(s)|server(s)|sharding|shard(s)|sql|statistical|tensor|thread(s)|threading|throughput|"
    "token(s)|tokenizer|transaction(s)|vector(s)"
)
#: Words by which a further step is joined on: a sub-task.
CONJUNCTION = (
    "then|after that|afterwards|finally|once that is done|once this is done|und dann|danach|anschließend|zum schluss"
)
_TASK = (
    "list|read|calculate|compute|plan|write|find|tell me|compare|translate|summari[ze|se]|show|search|"
    "check|explain|describe|collect|sort|count|create|implement|draft|review|merge|berechne|schreib(e)|"
    "finde|lies|erklär(e)"
)
#: What a clause begins with that asks something.
ASKING = f"{_TASK}|what|who|how|when|where|why|which|was|wer|wie|wann|wo|warum|whats|whos"

#: Words that a sentence may begin with before what it asks.
LEADS = words(
    "please pls bitte now then can could would will you u help me to i want need lets kannst könntest würdest du mir "
    "quickly just also and und ok okay so like id ill we jetzt dann mal doch uns hey hi hello well thanks great cool "
    "nice super danke ,"
)
#: Courtesy alone: a turn of nothing else asks for nothing.
COURTESY = (
    "thanks|thank you|thx|ty|danke|dankeschön|great|cool|nice|ok|okay|lol|perfect|super|awesome|good|hi|"
    "hello|hey|hallo|bye|good night|good morning|thats all|thats it|for today|for now|thats great|"
    "that was great|that was helpful|that helps|that helped|it works|works now|so much|very much|a lot|"
    "no|yes|yep|done|das wars|vielen dank"
)
#: What leads over to something else.
TURNING = (
    "by the way|btw|another thing|something else|new question|different question|different topic|"
    "other topic|new topic|unrelated|off topic|andere frage|anderes thema|übrigens|apropos|forget that|"
    "forget the"
)
#: What a turn begins with that goes on from the one before.
JOINING = (
    "and|now|also|but|or|so|then|what about|how about|what if|why|in that case|same|same thing|another|"
    "again|more|less|shorter|longer|can you make|make it|instead|und|jetzt|aber|oder|warum|nochmal|noch|"
    "auch|dasselbe|mach es|wie wäre|next|continue|go on|weiter|almost|still|hmm|wait|wrong|that|this|it|"
    "they|these|those|das|es|which of"
)
#: What refers to something said before.
REFERRING = (
    "it|its|this|that|these|those|them|they|same|above|previous|earlier|es|das|dies|dieses|diese|davon|"
    "dazu|damit|daran|your answer|your code|the code|the second|the first|the last one|instead|step|"
    "schritt|insgesamt|does not work|doesnt work"
)
