import json
import logging
import os
import subprocess
import sys

import pytest

from pocketseg.cli import console


def test_what_is_said_goes_to_the_log(caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="pocketseg"):
        console.speak("report: [here]")
        console.table("Results", ["run", "Dice"], [["first", "0.5"]])
    assert "report: [here]" in caplog.text and "first" in caplog.text and "Results" in caplog.text


HOSTILE = "a\x1b[31mred\x1b]0;owned\x07\rb\x9b2J"


@pytest.mark.row("A19")
def test_no_name_steers_the_terminal(capsys):
    console.speak(HOSTILE)
    console.table(HOSTILE, ["name", HOSTILE], [[HOSTILE, "[red]"]])
    console.log_to_terminal()
    logging.getLogger("pocketseg").warning("%s\n%s", HOSTILE, "second")
    shown = "".join(capsys.readouterr())
    assert "a\\x1b[31mred" in shown and "[red]" in shown
    assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
    assert "\\nsecond" in shown, "a log line stays one"


@pytest.mark.row("F25")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_shown_as_json_does(encoding):
    text = {"name": "größe 病 😀 \udcff →"}
    code = "import json, sys; from pocketseg.cli import console; console.any_encoding(); "
    code += f"print(json.dumps({text!a}, ensure_ascii=False)); console.speak({text['name']!a})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0].decode(encoding)) == text
