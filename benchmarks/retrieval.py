"""How well and how fast the memory finds things, beside plain FTS5, plain Chroma and LangChain's retrievers.

    python benchmarks/retrieval.py [--data PATH ...] [--embedder FOLDER] [--chunks 100000] [--vectors N] [--json]

Each PATH is a set, in the format it is published in; none of them is shipped:

    LoCoMo    locomo10.json, or its folder (github.com/snap-research/locomo, data/). Turns are searched in their own
              conversation; good are the turns named as evidence. Questions of all categories that name one.
    BEIR      a folder with corpus.jsonl, queries.jsonl, qrels/test.tsv, such as SciFact
    CoSQA     a folder with code_idx_map.txt and cosqa-retrieval-test-500.json (github.com/Jun-jie-Huang/CoCLR)
    own       a file like benchmarks/data/retrieval.json, which is what is read without --data

--embedder is a folder or hub name of a sentence-transformers model; without one only words are compared. LangChain's
retrievers take part where langchain-community with rank-bm25, or langchain-chroma, are installed.
Speed: chunks of the manual pages and Python sources of this machine are put and asked for; --vectors N does so with
vectors that are made up, for the time of both legs beside Chroma by itself and through LangChain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchai.errors import BenchAIError  # noqa: E402
from benchai.memory.measures import ndcg, recall, reciprocal_rank  # noqa: E402
from benchmarks.retrieval_parts import peers, sets, speed  # noqa: E402
from benchmarks.retrieval_parts.ours import Ours, Rankings  # noqa: E402
from benchmarks.retrieval_parts.sets import Collection, Question  # noqa: E402

COUNTS = (5, 10, 25, 50)
Figures = dict[str, float]


def figures(questions: Sequence[Question], rankings: Rankings) -> Figures:
    """R@5, 10, 25, 50, nDCG@10 and MRR of rankings, means over the questions."""
    pairs = [(ranking, one.good) for one, ranking in zip(questions, rankings, strict=True)]
    found = {f"R@{count}": _mean([recall(ranking, good, count) for ranking, good in pairs]) for count in COUNTS}
    found["nDCG@10"] = _mean([ndcg(ranking, good) for ranking, good in pairs])
    found["MRR"] = _mean([reciprocal_rank(ranking, good) for ranking, good in pairs])
    return found


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 4)


async def quality(collection: Collection, embedder: Any = None, weight: float = 0.8) -> dict[str, Any]:
    """All ways on a collection: figures by way, and those of the words' leg by group of questions; who was left out."""
    questions = collection.questions
    ranked: dict[str, Rankings] = {"plain FTS5": peers.plain_fts5(collection, questions)}
    absent = {}
    with tempfile.TemporaryDirectory(prefix="benchai-retrieval-") as folder:
        ours = Ours(Path(folder), collection)
        ranked["lexical"] = ours.lexical(questions)
        if embedder is not None:
            ranked |= await ours.dense(questions, embedder, weight)
            ranked["plain Chroma"] = await peers.plain_chroma(collection, questions, embedder)
    try:
        ranked["LangChain BM25"] = peers.langchain_bm25(collection, questions)
    except ImportError as error:
        absent["LangChain BM25"] = str(error)
    try:
        if embedder is not None:
            ranked["LangChain Chroma"] = await peers.langchain_chroma(collection, questions, embedder)
    except ImportError as error:
        absent["LangChain Chroma"] = str(error)
    return {
        "set": collection.name,
        "questions": len(questions),
        "ways": {name: figures(questions, rankings) for name, rankings in ranked.items()},
        "groups of lexical": _groups(questions, ranked["lexical"]),
        "absent": absent,
    }


def _groups(questions: Sequence[Question], rankings: Rankings) -> dict[str, Figures]:
    names = sorted({one.group for one in questions if one.group})
    found = {}
    for name in names:
        chosen = [(one, ranking) for one, ranking in zip(questions, rankings, strict=True) if one.group == name]
        found[name] = {"n": len(chosen)} | figures([one for one, _ in chosen], [ranking for _, ranking in chosen])
    return found


def table(report: dict[str, Any]) -> str:
    """A report for people."""
    names = [*(f"R@{count}" for count in COUNTS), "nDCG@10", "MRR"]
    lines = [f"{report['set']}, {report['questions']} questions", f"{'':24}" + "".join(f"{name:>9}" for name in names)]
    rows = report["ways"] | {f"  lexical, {name}": found for name, found in report["groups of lexical"].items()}
    lines += [f"{way:24}" + "".join(f"{found[name]:9.3f}" for name in names) for way, found in rows.items()]
    return "\n".join([*lines, *(f"{name}: left out, {why}" for name, why in report["absent"].items())])


def embedder_of(name: str | None) -> Any:
    """The embedder of a folder or hub name; None without one."""
    if name is None:
        return None
    from benchai.memory.local import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(name)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--embedder")
    parser.add_argument("--lexical-weight", type=float, default=0.8)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--vectors", type=int, default=0)
    parser.add_argument("--skip-speed", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    reports = []
    try:
        for path in args.data or [sets.OWN]:
            embedder = embedder_of(args.embedder)
            reports.append(asyncio.run(quality(sets.read(path), embedder, args.lexical_weight)))
            if not args.json:
                print(table(reports[-1]) + "\n")
    except BenchAIError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    timed = [] if args.skip_speed else [speed.measure(args.chunks)]
    if args.vectors:
        from benchmarks.retrieval_parts import vectors

        timed.append(asyncio.run(vectors.measure(args.vectors, rounds=2)))
    print(
        json.dumps({"quality": reports, "speed": timed}, indent=1) if args.json else "\n".join(map(speed.table, timed))
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
