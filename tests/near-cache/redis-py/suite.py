"""Runs redis-py's own tests direct and through, and compares what came of each; see ../run."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = HERE.parent / "expected.json"
# Seconds for a lane of tests, and for one test.
LIMIT, LIMIT_OF_TEST = 150, 20
# So often at most a test is repeated that came to something else on the two sides.
REPEATED = 2
# So many have to pass on both sides at least, or something is wrong with the run itself.
FLOOR = 2600
# So many differences are told at most.
SHOWN = 50
MARKS = "not onlycluster and not redismod and not ssl and not replica and not multidb_integration and not cp_integration"

# Those that talk to a server, which is a single one without modules.
FILES = [
    "tests/test_cache.py",
    "tests/test_client.py",
    "tests/test_commands.py",
    "tests/test_connect.py",
    "tests/test_connection.py",
    "tests/test_connection_pool.py",
    "tests/test_data_structure.py",
    "tests/test_encoding.py",
    "tests/test_function.py",
    "tests/test_keyspace_notifications.py",
    "tests/test_legacy_responses_arg.py",
    "tests/test_lock.py",
    "tests/test_monitor.py",
    "tests/test_multiprocessing.py",
    "tests/test_pipeline.py",
    "tests/test_pubsub.py",
    "tests/test_scripting.py",
    "tests/test_asyncio/test_client.py",
    "tests/test_asyncio/test_commands.py",
    "tests/test_asyncio/test_connection.py",
    "tests/test_asyncio/test_connection_pool.py",
    "tests/test_asyncio/test_encoding.py",
    "tests/test_asyncio/test_keyspace_notifications.py",
    "tests/test_asyncio/test_lock.py",
    "tests/test_asyncio/test_monitor.py",
    "tests/test_asyncio/test_pipeline.py",
    "tests/test_asyncio/test_pubsub.py",
    "tests/test_asyncio/test_scripting.py",
]
# What is different on the wire in the older protocol; the asynchronous tests repeat it.
OLDER = ["tests/test_commands.py", "tests/test_encoding.py", "tests/test_pipeline.py", "tests/test_pubsub.py",
         "tests/test_scripting.py"]

# Protocol, part of the tests, files: what runs at a time on a server of its own, as tests empty it.
LANES = [("3", "0/3", FILES), ("3", "1/3", FILES), ("3", "2/3", FILES), ("2", "0/1", OLDER)]


def pytest(folder, address, lane, excluded, only=None):
    """What came of each test of a lane at an address."""
    protocol, part, files = lane
    with tempfile.TemporaryDirectory() as scratch:
        file, log = pathlib.Path(scratch, "outcomes"), pathlib.Path(scratch, "log")
        environment = os.environ | {"PYTHONPATH": str(HERE), "OUTCOMES": str(file), "PART": part,
                                    "EXCLUDED": json.dumps(list(excluded)),
                                    # Kept compiled, which saves more time than the tests take.
                                    "PYTHONPYCACHEPREFIX": str(folder / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
        if only is not None:
            environment["ONLY"] = json.dumps(only)
            files = sorted({test.split("::")[0] for test in only})
        command = [str(folder / "venv/bin/python"), "-W", "ignore", "-m", "pytest", "-q", "-p", "no:cacheprovider",
                   "-p", "outcomes", "--redis-url", f"redis://{address}/0", "--protocol", protocol, "-m", MARKS,
                   "--timeout", str(LIMIT_OF_TEST), "--tb", "short", "-W", "ignore", *files]
        with log.open("w") as output:
            try:
                subprocess.run(command, cwd=folder / "source", env=environment, stdin=subprocess.DEVNULL,
                               stdout=output, stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
            except subprocess.TimeoutExpired:
                print(f"{address}: the tests took longer than {LIMIT} s")
        if not file.exists():
            print(f"{address}: pytest did not end as it should:\n{log.read_text()[-3000:]}")
            return {}, log.read_text()
        return json.loads(file.read_text()), log.read_text()


def both(folder, addresses, lane, excluded, only=None):
    """The outcomes direct and through, which run at the same time."""
    found, logs = [{}, {}], ["", ""]

    def side(index):
        found[index], logs[index] = pytest(folder, addresses[index], lane, excluded, only)

    threads = [threading.Thread(target=side, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, logs


def differences(found):
    direct, through = found
    return {test: (direct.get(test, "not run"), through.get(test, "not run"))
            for test in sorted({*direct, *through}) if direct.get(test) != through.get(test)}


def name(lane, test):
    """One test in both protocols is two: the older one is named."""
    return test if lane[0] == "3" else f"RESP2 {test}"


def lane_compared(folder, addresses, lane, excluded, listed):
    """Tests run on both sides by outcome, and what differs, repeated as it may be the machine's doing."""
    found, logs = both(folder, addresses, lane, excluded)
    different = differences(found)
    again = [test for test in different if name(lane, test) not in listed]
    # Many are no accident, and would take their time.
    for _ in range(REPEATED if len(again) <= 20 else 0):
        if not again:
            break
        repeated, logs = both(folder, addresses, lane, excluded, again)
        for test in again:
            if test not in differences(repeated):
                print(f"unsteady: {name(lane, test)}: {' | '.join(different.pop(test))}, once")
        again = [test for test in again if test in different]
    if again:
        print(f"--- the last lines through {addresses[1]}\n{logs[1][-4000:]}")
    return found, {name(lane, test): outcome for test, outcome in different.items()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--direct", action="append", required=True)
    parser.add_argument("--through", action="append", required=True)
    given = parser.parse_args()
    expected = json.loads(EXPECTED.read_text())
    excluded, listed = expected["excluded"], expected["differences"]
    passed, seen, different = 0, set(), {}
    guard = threading.Lock()

    def work(index):
        """The lanes of an address one after another: each empties the server behind it."""
        nonlocal passed
        for lane in LANES[index::len(given.through)]:
            addresses = given.direct[index % len(given.direct)], given.through[index]
            found, differing = lane_compared(given.folder, addresses, lane, excluded, listed)
            with guard:
                # What is skipped on both sides, for what this Redis has not, says nothing.
                seen.update(name(lane, test) for test in {*found[0], *found[1]}
                            if {found[0].get(test), found[1].get(test)} != {"skipped"})
                passed += sum(outcome == "passed" == found[1].get(test) for test, outcome in found[0].items())
                different.update(differing)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(given.through))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    failed = 0
    for test, (direct, through) in sorted(different.items()):
        if test not in listed:
            failed += 1
            if failed == SHOWN:
                print("and more")
            if failed >= SHOWN:
                continue
            print(f"FAILED  {test}\n        direct:  {direct}\n        through: {through}")
    if passed < FLOOR:
        failed += 1
        print(f"FAILED  only {passed} tests pass on both sides; {FLOOR} should")
    # A list that is longer than what differs hides the next difference. Direct against direct, nothing does.
    if os.environ.get("HOLD_LIST"):
        for test in sorted(set(listed) - set(different)):
            failed += 1
            print(f"FAILED  {test}\n        is in expected.json, but {'does not differ' if test in seen else 'is not run'}")
    same = len(seen) - len(different)
    print(f"redis-py: {len(seen)} tests, {passed} pass on both sides, {len(different)} differ, "
          f"{len(different.keys() & listed.keys())} of them with a reason")
    print(f"redis-py: {same + len(different.keys() & listed.keys())} passed, {failed} failed")
    sys.exit(failed > 0)


main()
