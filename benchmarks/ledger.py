"""Finished runs of a suite in one file of text, so that it can gather over many sittings; and back into run folders.

`python benchmarks/ledger.py pack runs/deep docs/results/deep.jsonl` writes a line for every run that finished or
diverged: its settings, manifest (without places) and, unless it diverged, summary; checkpoints and measurements stay
behind. `unpack` makes folders of the lines, and `qladder suite deep --out runs/deep` then runs what is missing.

Of claims, which have several folders of runs each, `pack runs/claims docs/results/claims` writes a file for each of
them, and `unpack docs/results/claims runs/claims` puts all back to where `qladder claims` looks for them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tomllib
from pathlib import Path

import tomli_w

from qladder.envs.errors import UserError
from qladder.runners.run_folder import write_json
from qladder.runners.runs import diverged_in, find_runs

PARTS = ("manifest", "summary")  # the summary last: without it a run is not there, unless it diverged


def pack(folder: Path, file: Path) -> int:
    """How many runs `file` holds now, one line each, sorted by name; UserError where `folder` holds none.

    Runs that were in the file and are not in the folder stay.
    """
    lines = {json.loads(line)["name"]: line + "\n" for line in _lines(file)}
    finished = [run.folder for run in find_runs([folder]).runs if run.exit_reason == "finished"]
    for run in diverged_in(folder) + finished:
        config = tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
        names = PARTS if run in finished else PARTS[:1]
        parts = {name: json.loads((run / f"{name}.json").read_text("utf-8")) for name in names}
        for name in ("command_line", "settings_from"):  # they tell where the run lay
            parts["manifest"].pop(name, None)
        lines[run.name] = json.dumps({"name": run.name, "config": config, **parts}, separators=(",", ":")) + "\n"
    text = "".join(line for _, line in sorted(lines.items())).encode()
    file.write_bytes(gzip.compress(text, mtime=0) if file.suffix == ".gz" else text)
    return len(lines)


def unpack(file: Path, folder: Path) -> int:
    """How many run folders were made; one that is there already stays as it is."""
    made = 0
    for line in _lines(file):
        kept = json.loads(line)
        run = folder / kept["name"]
        names = [name for name in PARTS if name in kept]
        if (run / f"{names[-1]}.json").exists():
            continue
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.toml").write_text(tomli_w.dumps(kept["config"]), encoding="utf-8")
        for name in names:
            write_json(run / f"{name}.json", kept[name])
        made += 1
    return made


def pack_claims(folder: Path, files: Path) -> int:
    """How many runs `files` holds of claims; those of `know-how-1f00/runs` are in `know-how-1f00.runs.jsonl.gz`."""
    files.mkdir(parents=True, exist_ok=True)
    places = sorted({summary.parent.parent for summary in folder.glob("*/*/*/summary.json")})
    return sum(pack(place, files / f"{'.'.join(place.relative_to(folder).parts)}.jsonl.gz") for place in places)


def unpack_claims(files: Path, folder: Path) -> int:
    """How many run folders were made."""
    return sum(unpack(file, folder.joinpath(*file.name.split(".")[:2])) for file in sorted(files.glob("*.jsonl.gz")))


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    data = file.read_bytes()
    return (gzip.decompress(data) if file.suffix == ".gz" else data).decode().splitlines()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    args = parser.parse_args()
    if not args.source.exists():
        parser.error(f"{args.source}: no such file or folder")
    one = (args.destination if args.action == "pack" else args.source).suffix in (".jsonl", ".gz")
    actions = {"pack": pack if one else pack_claims, "unpack": unpack if one else unpack_claims}
    try:
        count = actions[args.action](args.source, args.destination)
    except UserError as error:
        parser.error(str(error))
    print(f"{count} runs in {args.destination}" if args.action == "pack" else f"{count} runs unpacked")


if __name__ == "__main__":
    main()
