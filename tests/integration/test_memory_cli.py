"""``benchai memory`` as a user types it: with the memory in the command's own process, and in a running server's."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchai.testing import ScriptedServer, text
from tests.integration.helpers import Done, benchai, commands, running, tiny_config, write_config
from tests.integration.serve_helpers import serving

__all__ = ["commands"]


class Cli:
    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.folder, self.env = folder, env

    def __call__(self, *args: str, stdin: bytes = b"") -> Done:
        done = benchai("memory", *args, cwd=self.folder, stdin=stdin, env=self.env)
        done.clean()
        return done

    def json(self, *args: str) -> Any:
        return json.loads(self(*args, "--json").out)

    def found(self, question: str, *more: str) -> list[str]:
        return [passage["text"] for passage in self.json("search", question, *more)["passages"]]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "pump.md").write_text("# The pump\n\nIt moves 40 litres a minute.\n", encoding="utf-8")
    (notes / "cat.txt").write_text("Tom sleeps on the stove.\n", encoding="utf-8")
    return Cli(tmp_path, {"BENCHAI_HOME": str(tmp_path / "benchai-home")})


@pytest.fixture(params=["alone", "served"])
def either(request: pytest.FixtureRequest, cli: Cli) -> Iterator[Cli]:
    """The same commands without a server and with one."""
    if request.param == "alone":
        yield cli
        return
    config = tiny_config() | {"fleet": {"core": []}}
    write_config(cli.folder, config)
    with serving(cli.folder):
        yield cli


def test_documents_from_adding_to_forgetting(either: Cli) -> None:
    added = either("add", "notes")
    assert "2 added; 2 passages" in added.err
    assert "2 unchanged" in either("add", "notes").err
    assert either.found("how many litres does the pump move?") == ["# The pump\n\nIt moves 40 litres a minute."]
    shown = either("search", "pump", "--explain")
    assert "pump.md:1" in shown.out
    assert "dense is off: no embedder" in shown.err
    (either.folder / "notes" / "cat.txt").unlink()
    assert "1 removed" in either("add", "notes").err
    assert either.found("stove") == []
    gone = either("forget", "--source", "*/pump.md", "--yes")
    assert "documents: 1" in gone.err
    assert either.found("pump") == []


def test_notes_are_kept_shown_corrected_and_explained(either: Cli) -> None:
    kept = either("remember", "Anna lives in Rome")
    assert kept.out == "f1\n"
    assert "it was known" in either("remember", "Anna lives in Rome").err
    assert "Anna lives in Rome" in either("show").out
    either("edit", "f1", "--text", "Anna lives in Milan")
    assert either.found("Where does Anna live?") == ["Anna lives in Milan"]
    assert "learned" in either("why", "f1").out
    either("forget", "f1").refused("this would forget facts: 1", "--yes")
    assert "facts: 1" in either("forget", "f1", "--yes").err
    either("why", "f1").refused("f1")


def test_everything_with_an_id_is_shown(either: Cli) -> None:
    either("add", "notes")
    found = either.json("search", "pump")["passages"][0]
    assert "It moves 40 litres" in either("show", found["id"]).out
    assert "It moves 40 litres" in either("show", found["owner"]).out
    assert either.json("show", found["owner"])[0]["id"] == found["id"]
    for id in ("p99", "d99", "h99", "s99", "f99", "t99", "x1"):
        either("show", id).refused(id)


def test_nothing_kept_steers_the_terminal(either: Cli) -> None:
    either("remember", "the pump is \x1b[31mred\x1b]0;owned\x07 \x9b2J")
    shown = [either("show"), either("show", "f1"), either("why", "f1"), either("search", "pump", "--explain")]
    for done in shown:
        assert "red" in done.out
        assert not set(done.out + done.err) & set("\x1b\x07\x9b")


def test_the_user_of_a_key_has_a_memory_of_his_own(either: Cli) -> None:
    either("remember", "the plan is secret", "-n", "ann@example.org:")
    assert either.found("plan") == either.found("plan", "-n", "bob:") == []
    assert either.found("plan", "-n", "ann@example.org:work") == ["the plan is secret"]
    assert "facts: 1" in either("forget", "f1", "--yes", "-n", "ann@example.org:").err


def test_namespaces(either: Cli) -> None:
    either("remember", "the plan is secret", "-n", "work")
    assert either.found("plan") == []
    assert either.found("plan", "-n", "work") == ["the plan is secret"]
    assert either.found("plan", "-n", "work/thread") == ["the plan is secret"]
    either("remember", "x", "-n", "a/b/c").refused("'a/b/c' is no namespace", "PROJECT/THREAD")
    either("remember", "x", "-n", "../up").refused("no name")


def test_an_export_can_be_imported(either: Cli) -> None:
    either("add", "notes")
    either("remember", "Anna lives in Rome")
    either("export", "all.jsonl")
    assert "Anna lives in Rome" in either("export", "--markdown").out
    either("forget", "--everything", "--yes")
    done = either("import", "all.jsonl")
    assert "documents: 2, facts: 1" in done.err
    assert "known: documents: 2, facts: 1" in either("import", "all.jsonl").err
    assert either.found("Anna") == ["Anna lives in Rome"]
    odd = "one\u2028two\x85three\x1cfour"
    either("remember", odd)
    either("export", "odd.jsonl")
    either("forget", "--everything", "--yes")
    either("import", "odd.jsonl").clean()
    assert either.found("three") == [odd]
    (either.folder / "all.jsonl").write_text("{}\n", encoding="utf-8")
    either("import", "all.jsonl").refused("line 1", code=1)


def test_markdown_can_be_imported(either: Cli) -> None:
    either("remember", "Anna lives in Rome")
    either("export", "--markdown", "notes/all.md")
    (either.folder / "notes" / ".hidden.md").write_bytes(b"\xff")
    # what export wrote is known, the file pump.md is not
    done = either("import", "notes", "--json")
    assert json.loads(done.out) == {"added": {"fact": 1}, "known": {"fact": 1}, "skipped": {"headings": 1}}
    assert either.found("pump") == ["The pump: It moves 40 litres a minute."]
    (either.folder / "notes" / "bad.md").write_text("one\n<!-- two", encoding="utf-8")
    either("import", "notes").refused("'bad.md', line 2 of the import", code=1)
    told = either("import", "-", "--markdown", stdin=b"# Me\n- likes tea\n").err
    assert told == "added: facts: 1\nknown: nothing\nskipped: headings: 1\n"


def test_what_was_forgotten_is_proved_gone(either: Cli) -> None:
    either("add", "notes")
    either("remember", "The code of the safe is 7391-4821-5560")
    proved = either("forget", "--matching", "7391-4821", "--prove", "--yes")
    assert (proved.code, proved.out) == (0, "")
    assert "nothing of it is left there" in proved.err
    for file in (either.folder / "benchai-home" / "data" / "memory").rglob("*"):
        assert not file.is_file() or b"7391-4821-5560" not in file.read_bytes()
    assert len(either.found("pump")) == 1


def test_a_copy_elsewhere_is_found(cli: Cli) -> None:
    logs = cli.folder / "benchai-home" / "logs"
    logs.mkdir(parents=True)
    (logs / "model.log").write_text("user: the code of the safe is 7391-4821-5560\n", encoding="utf-8")
    cli("remember", "the code of the safe is 7391-4821-5560")
    proved = cli("forget", "f1", "--prove", "--yes")
    assert proved.code == 1
    assert "model.log" in proved.out


def test_upkeep(either: Cli) -> None:
    either("add", "notes")
    assert "passages: 2" in either("stats").out
    assert "0 problems" in either("verify").err
    assert "the full-text index is new" in either("rebuild").err
    assert either("vacuum").code == 0


def test_input_and_what_cannot_be_read(either: Cli) -> None:
    assert "1 added" in either("add", "-", "--name", "said.md", stdin=b"# Said\n\nby hand").err
    assert either.found("hand") == ["# Said\n\nby hand"]
    (either.folder / "notes" / "empty.txt").write_bytes(b"")
    (either.folder / "notes" / "odd.txt").write_bytes(b"\x00\x01\x02" * 100)
    done = either("add", "notes", "nowhere")
    assert done.code == 1
    assert "not read: " in done.err
    assert "nowhere" in done.err
    assert "2 added" in done.err
    local = either("add", "http://127.0.0.1:9/x")
    assert local.code == 1
    assert "not read" in local.err


def test_bad_input(cli: Cli) -> None:
    cli("search", "x", "--kind", "dream").refused("'dream'")
    cli("remember", "  ").refused("the note is empty")
    cli("show", "--as-of", "yesterday").refused("'yesterday'", "2026-05-01")
    cli("forget").refused("name one of ids")
    cli("forget", "f9", "--yes").refused("f9")
    cli("edit", "f1").refused("nothing is to be changed")
    cli("tune").refused("20")
    cli("label", "q", "p9").refused("p9")
    cli("add-vault", "notes").refused("notes")
    write_config(cli.folder, tiny_config() | {"memory": {"enabled": False}})
    cli("search", "x").refused("switched off", "memory.enabled")


def test_a_second_owner_is_named(cli: Cli) -> None:
    from benchai.memory.owner import Owner

    write_config(cli.folder, tiny_config() | {"memory": {"path": "mine", "wait": 0.2}})
    with Owner.take(cli.folder / "mine"):
        done = cli("search", "x")
    done.refused("in use by", "pid", code=1)


def test_facts_are_taken_by_a_model_and_what_it_invents_is_refused(cli: Cli) -> None:
    def fact(value: str, said: str) -> dict[str, Any]:
        return {
            "subject": "user",
            "relation": "lives_in",
            "value": value,
            "text": said,
            "sources": [1],
            "confidence": 0.9,
        }

    claims = [fact("Rome", "The user lives in Rome"), fact("Paris", "The user lives in Paris")]
    with ScriptedServer(text("Noted."), text(json.dumps({"facts": claims}))) as server:
        data = {"models": {"m": server.model()}, "roles": {"general": "m"}}
        write_config(cli.folder, data)
        ran = benchai("run", "react", "I live in Rome since last year", cwd=cli.folder, env=cli.env)
        assert ran.code == 0, ran
        done = cli("learn")
    assert "new: 1, known: 0, superseded: 0, refused: 1" in done.err
    assert "Paris" in done.out
    assert "The user lives in Rome" in cli("show").out
    why = cli("why", "f1")
    assert "I live in Rome since last year" in why.out


def test_labels_and_too_few_of_them(cli: Cli) -> None:
    cli("add", "notes")
    (passage,) = cli.json("search", "litres")["passages"]
    assert cli("label", "how many litres?", passage["id"]).code == 0
    cli("tune").refused("20")


def test_what_cannot_be_read_is_named(cli: Cli) -> None:
    Path(os.fsdecode(os.fsencode(cli.folder / "notes") + b"/odd\xff.txt")).write_text("text\n", encoding="utf-8")
    done = benchai("memory", "add", "notes", cwd=cli.folder, env=cli.env)
    assert done.code == 1
    assert "odd\\\\udcff.txt': its name is not UTF-8" in done.err


def test_what_is_left_out_of_a_folder_is_listed(cli: Cli) -> None:
    (cli.folder / "notes" / "id_rsa").write_text("secret\n", encoding="utf-8")
    added = cli("add", "notes")
    assert "left out: " in added.err
    assert "id_rsa': its name is that of a secret (name the file itself" in added.err


def test_a_server_that_takes_little_at_once_is_given_it_in_parts(cli: Cli) -> None:
    for name in range(4):
        (cli.folder / "notes" / f"n{name}.txt").write_text(f"Number {name}. " * 200, encoding="utf-8")
    (cli.folder / "notes" / "large.txt").write_text("A long text. " * 1000, encoding="utf-8")
    write_config(cli.folder, tiny_config() | {"fleet": {"core": []}, "server": {"max_body": 8000}})
    with serving(cli.folder):
        added = cli("add", "notes")
        assert "6 added" in added.err
        assert "large.txt' can't be kept: " in added.err
        assert "raise server.max_body" in added.err


def test_ctrl_c_ends_watching_without_a_word(cli: Cli) -> None:
    with running("memory", "add", "notes", "--watch", "--json", cwd=cli.folder, env=cli.env) as process:
        while b"added" not in process.stdout.readline():
            pass
        os.kill(process.process.pid, signal.SIGINT)
        done = process.end()
    assert (done.code, done.err) == (130, "")
