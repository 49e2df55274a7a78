"""One file of finished work: sorted, whole after a kill, and shared by processes that write at once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.runner.records import Records


ROOT = Path(__file__).parents[2]


def add_in_processes(path, keys, wait=True):
    code = (
        "import sys; from pathlib import Path; from benchmarks.runner.records import Records\n"
        "for key in sys.argv[2:]:\n"
        "    Records(Path(sys.argv[1])).add({'key': key, 'format': 1, 'text': 'x' * 20000})\n"
        "    print(key, flush=True)\n"
    )
    made = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), *some], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for some in keys
    ]
    for process in made if wait else ():
        process.communicate()
        assert process.returncode == 0
    return made


def test_lines_are_sorted_and_a_key_is_there_once(tmp_path):
    records = Records(tmp_path / "folder" / "cells.jsonl")
    assert records.read() == {}
    for key, value in (("b", 0.1), ("a", 1), ("b", 0.1 + 0.2)):
        records.add({"key": key, "format": 1, "value": value})
    lines = [json.loads(line) for line in records.path.read_text().splitlines()]
    assert [(line["key"], line["value"]) for line in lines] == [("a", 1), ("b", 0.1 + 0.2)]
    assert [path.name for path in records.path.parent.iterdir()] == ["cells.jsonl"]


def test_two_processes_at_once_lose_nothing(tmp_path):
    keys = [[f"{name}{i:02}" for i in range(12)] for name in "ab"]
    add_in_processes(tmp_path / "cells.jsonl", keys)
    assert list(Records(tmp_path / "cells.jsonl").read()) == sorted(keys[0] + keys[1])


def test_a_killed_process_loses_nothing_finished(tmp_path):
    path = tmp_path / "cells.jsonl"
    (process,) = add_in_processes(path, [[f"{i:04}" for i in range(2000)]], wait=False)
    finished = [process.stdout.readline().strip() for _ in range(15)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    finished += rest.split()
    found = list(Records(path).read())
    assert found[: len(finished)] == finished
    assert len(found) <= len(finished) + 1  # one may have been written and not yet said
    Records(path).add({"key": "after", "format": 1})  # the lock went with the process
    assert "after" in Records(path).read()


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"key": "a", "form', "line 2: expected a JSON object"), ("[1]", "line 2"), ('{"format": 1}', "with a `key`"),
     ('{"key": "b", "format": 2}', "line 2 is of format 2; expected 1")],
)  # fmt: skip
def test_a_damaged_line_is_named(tmp_path, line, message):
    path = tmp_path / "cells.jsonl"
    path.write_text('{"key": "a", "format": 1}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        Records(path).read()
