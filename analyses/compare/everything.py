"""All experiments one after the other, and the page that lays them side by side."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from analyses.compare.cosines import compare
from analyses.compare.index import write_index
from analyses.compare.jobs import run_beside
from analyses.experiments import EXPERIMENTS, configure
from analyses.measurements import Result, read_result, versions
from interp.errors import AnachronError
from interp.files import write_json

FOLDER = "all"  # beside the experiments' own folders


def run_all(
    options: Mapping[str, Any], out: Path, say: Callable[[str], None], *, fresh: bool = False, jobs: int = 1
) -> dict[str, Result]:
    """Run every experiment into `out/<name>`, then write `out/all/index.html` and `out/all/cosines.json`.

    One whose `result.json` was made from this very configuration and these versions isn't run again, unless `fresh`.
    An interrupted one goes on where it was, since it keeps its adapters. `jobs` run at a time, in processes of one
    thread each where there are several.
    """
    if alone := [name for name in ("data", "control_data") if options.get(name) is not None]:
        raise AnachronError(f"{' and '.join(alone)}: rows belong to one experiment; run that one by its name")
    prepared = {name: configure(name, options) for name in EXPERIMENTS}  # wrong options are told before any work
    results: dict[str, Result] = {}
    missing = []
    for i, (name, (config, run)) in enumerate(prepared.items(), start=1):
        where = f"{name} ({i} of {len(prepared)})"
        kept, reason = (None, "run again") if fresh else kept_result(out / name / "result.json", config)
        say(f"{where}: kept, its result has this configuration" if kept else f"{where}: {reason}")
        if kept is None and jobs > 1:
            missing.append(name)
        else:
            results[name] = kept or run(out / name, _saying(name, say))
    if missing:
        run_beside(missing, options, out, say, jobs)
        results |= {name: read_result(out / name / "result.json") for name in missing}
        results = {name: results[name] for name in prepared}
    cosines, left_out = compare({name: (out / name, result) for name, result in results.items()})
    if cosines is not None:
        write_json(out / FOLDER / "cosines.json", cosines)
    write_index(results, cosines, left_out, out / FOLDER / "index.html")
    return results


def _saying(name: str, say: Callable[[str], None]) -> Callable[[str], None]:
    """What an experiment says, with its name before it."""
    return lambda text: say(f"{name}: {text.lstrip()}")


def kept_result(path: Path, config: Any) -> tuple[Result | None, str]:
    """The result at `path` if it was made from this configuration with these versions; else None, and the reason."""
    if not path.exists():
        return None, "no result yet"
    try:
        result = read_result(path)
    except AnachronError as error:
        return None, f"its result can't be used ({error})"
    wanted = json.loads(json.dumps(config.as_json()))
    changed = [key for key, value in wanted.items() if key not in result.config or result.config[key] != value]
    changed += [name for name, value in versions().items() if result.versions.get(name) != value]
    return (None, f"its result has other {', '.join(changed)}") if changed else (result, "")
