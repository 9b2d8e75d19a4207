"""Loaded into pytest: one part of the tests, and what came of each as JSON (OUTCOMES names the file)."""
import json
import os
import tracemalloc

# The suite traces every allocation, for its messages about sockets left open: twice the time.
tracemalloc.start = tracemalloc.stop = lambda *_: None

outcomes = {}


def pytest_collection_modifyitems(config, items):
    """Of the tests, those that are not excluded, and of these every COUNTth from INDEX on; or those named in ONLY."""
    index, count = (int(number) for number in os.environ["PART"].split("/"))
    excluded = json.loads(os.environ["EXCLUDED"])
    only = json.loads(os.environ.get("ONLY", "null"))
    kept = [item for item in items if not any(item.nodeid.startswith(name) for name in excluded)]
    kept = [item for item in kept if item.nodeid in only] if only is not None else kept[index::count]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def kind_of(report):
    """A failure by its exception; the words of it hold ports and times."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message.split("\n")[0].split(":")[0] if crash else "Failed"


def pytest_runtest_logreport(report):
    told = outcomes.setdefault(report.nodeid, "no outcome")
    if report.failed:
        stage = "" if report.when == "call" else f" in {report.when}"
        if not told.startswith("failed"):
            outcomes[report.nodeid] = f"failed{stage}: {kind_of(report)}"
    elif report.skipped:
        outcomes[report.nodeid] = "failed as expected" if hasattr(report, "wasxfail") else "skipped"
    elif report.when == "call":
        outcomes[report.nodeid] = "passed"


def pytest_sessionfinish():
    with open(os.environ["OUTCOMES"], "w", encoding="utf-8") as file:
        json.dump(outcomes, file)
