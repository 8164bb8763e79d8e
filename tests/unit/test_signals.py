"""Children that are asked to stop, and what their exit codes say, here and as on Windows."""

from __future__ import annotations

import signal
import subprocess
import sys

from helpers.windows import said_as_windows
from pocketseg.signals import ENDS, INTERRUPT, heard, killer

ASKED = """
import signal, subprocess, sys, threading
from pocketseg import signals

# Who starts the tests in the background has these ignored, and children inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(1, signal.SIG_DFL)
CHILD = '''
import signal, sys, threading, time
from pocketseg import signals
for number in signals.heard(signals.INTERRUPT, *signals.ENDS):
    signal.signal(number, lambda number, _: (print("heard", number, flush=True), sys.exit(3)))
if sys.argv[1] == "itself":
    threading.Timer(0.1, signals.end_this_process).start()
print("ready", flush=True)
while True:
    time.sleep(0.05)
'''
for how in ("asked", "itself"):
    child = subprocess.Popen([sys.executable, "-c", CHILD, how], stdout=subprocess.PIPE, **signals.own_group())
    assert child.stdout.readline() == b"ready\\n"
    if how == "asked":
        signals.ask_to_stop(child)
    print(child.communicate(timeout=60)[0].decode().strip(), child.returncode, signals.killer(child.returncode))
"""


def test_a_child_is_asked_to_stop_and_hears_its_own_end():
    here = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=60)
    assert here.stdout == "heard 2 3 \nheard 15 3 \n", here.stderr
    ctrl_break = 1
    assert said_as_windows(ASKED) == f"heard {ctrl_break} 3 \nheard 15 3 \n"


def test_what_is_ignored_stays_so():
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_IGN}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        assert heard(INTERRUPT, *ENDS) == [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_ended_a_child():
    assert [killer(code) for code in (0, 1, 143, -9, 0xC0000005)] == ["", "", "", "SIGKILL", "error 0xC0000005"]
    assert killer(-40) == "signal 40", "a signal without a name"
