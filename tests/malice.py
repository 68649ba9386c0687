"""Run folders made to do harm, each tried under an audit hook: `python malice.py GOOD_RUN GOOD_TABLE_RUN SCRATCH`.

Prints a JSON object: what loading and resuming each of them came to, and what the hook saw.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from qladder.runners.checkpoint import seal

SECRET = "secret.txt"
SEEN: list[str] = []
ACTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "webbrowser.open", "pickle.find_class")


class Boom:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> Any:
        return exec, ("open('boom', 'w')",)


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event in ACTS or (event == "subprocess.Popen" and args[1][0] != "git"):
        SEEN.append(f"{event} {args!r}"[:200])
    if event == "open" and isinstance(args[0], str) and (SECRET in args[0] or args[0].endswith(("boom", "passwd"))):
        SEEN.append(f"open {args[0]}")


def sealed(checkpoint: Path) -> None:
    """Hashes made anew, as whoever wants to do harm can."""
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    digests = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in manifest["sha256"]}
    (checkpoint / "manifest.json").write_text(seal(digests, manifest["segments"]))


def manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def attack(checkpoint: Path) -> None:
        path = checkpoint / "manifest.json"
        value = json.loads(path.read_text())
        value = change(value) or value
        whole = isinstance(value, dict) and {"sha256", "segments"} <= value.keys()
        path.write_text(seal(value["sha256"], value["segments"]) if whole else json.dumps(value))

    return attack


def state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def attack(checkpoint: Path) -> None:
        path = checkpoint / "state.json"
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value) or value))
        sealed(checkpoint)

    return attack


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    def attack(checkpoint: Path) -> None:
        (checkpoint / name).write_bytes(content.encode() if isinstance(content, str) else content)
        if name != "manifest.json":
            sealed(checkpoint)

    return attack


def arrays(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """All arrays written anew, after a change."""

    def attack(checkpoint: Path) -> None:
        with np.load(checkpoint / "arrays.npz") as file:
            found: dict[str, Any] = dict(file)
        change(found)
        np.savez(checkpoint / "arrays.npz", **found)
        sealed(checkpoint)

    return attack


def members(change: Callable[[dict[str, bytes]], Any], **options: Any) -> Callable[[Path], None]:
    """All members written anew as bytes, after a change."""

    def attack(checkpoint: Path) -> None:
        with zipfile.ZipFile(checkpoint / "arrays.npz") as file:
            found = {name: file.read(name) for name in file.namelist()}
        change(found)
        with zipfile.ZipFile(checkpoint / "arrays.npz", "w", **options) as file:
            for name, content in found.items():
                file.writestr(name, content)
        sealed(checkpoint)

    return attack


def link(name: str) -> Callable[[Path], None]:
    def attack(checkpoint: Path) -> None:
        secret = checkpoint.parents[2] / SECRET
        secret.write_bytes((checkpoint / name).read_bytes())
        (checkpoint / name).unlink()
        (checkpoint / name).symlink_to(secret)

    return attack


def npy(header: str) -> bytes:
    padded = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + bytes(64)


def put(table: dict[str, Any], *path: str | int, value: Any) -> None:
    *before, last = path
    for key in before:
        table = table[key]
    table[last] = value


def segment(name: str) -> Callable[[dict[str, Any]], Any]:
    digest = hashlib.sha256(b"secret").hexdigest()
    return lambda m: put(m, "segments", name, value=digest)


def first(found: dict[str, Any], value: Any) -> None:
    found["a0"] = value


def header(found: dict[str, bytes], text: str) -> None:
    found["a0.npy"] = npy(text)


def every_array(found: dict[str, Any], change: Callable[[Any], Any]) -> None:
    for name in found:
        found[name] = change(found[name])


def says(dtype: str, length: int) -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({length},), }}"


STRAY = {"file": f"../../../{SECRET}", "sha256": "0", "name": "x", "version": 1}
BOMB = npy(says("|u1", 300_000_000)) + bytes(300_000_000 - 64)
DEEP = "[" * 200_000 + "]" * 200_000
OBJECT = np.array([Boom()], object)
CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "segment above": manifest(segment(f"../../../{SECRET}")),
    "segment above, with its ending": manifest(segment(f"../../../{SECRET}.npz")),
    "segment absolute": manifest(segment("/etc/passwd")),
    "segment with a null": manifest(segment("a\0.npz")),
    "segment hidden": manifest(segment(".npz")),
    "segments are a list": manifest(lambda m: put(m, "segments", value=["x.npz"])),
    "segments are missing": manifest(lambda m: {"sha256": m["sha256"]}),
    "hashes are a list": manifest(lambda m: put(m, "sha256", value=[])),
    "hashes are missing": manifest(lambda m: put(m, "sha256", value={})),
    "manifest is a list": manifest(lambda m: [1]),
    "manifest is deep": text("manifest.json", DEEP),
    "manifest is no text": text("manifest.json", b"\xff\xfe\x00"),
    "manifest is long": text("manifest.json", " " * (2**26 + 1)),
    "state is deep": text("state.json", DEEP),
    "state is long": text("state.json", " " * (2**26 + 1)),
    "state is a number": text("state.json", "1"),
    "state is empty": text("state.json", ""),
    "segment that nothing vouches for": state(lambda s: put(s, "agent", value={"$segment": STRAY})),
    "segment is a number": state(lambda s: put(s, "agent", value={"$segment": 3})),
    "array that is not there": state(lambda s: put(s, "agent", value={"$array": f"../{SECRET}"})),
    "array is a table": state(lambda s: put(s, "agent", value={"$array": {"a": 1}})),
    "array is a list": state(lambda s: put(s, "agent", value={"$array": [1]})),
    "tensor is none": state(lambda s: put(s, "agent", value={"$tensor": None})),
    "no agent": state(lambda s: {k: v for k, v in s.items() if k != "agent"}),
    "agent is a list": state(lambda s: put(s, "agent", value=[1, 2])),
    "agent is nothing": state(lambda s: put(s, "agent", value=None)),
    "agent is empty": state(lambda s: put(s, "agent", value={})),
    "pickled object": arrays(lambda f: first(f, OBJECT)),
    "all arrays are objects": arrays(lambda f: every_array(f, lambda _: OBJECT)),
    "all arrays are longer": arrays(lambda f: every_array(f, lambda a: np.concatenate([np.ravel(a)] * 3))),
    "all arrays are words": arrays(lambda f: every_array(f, lambda a: np.full(a.shape, "word"))),
    "all arrays are empty": arrays(lambda f: every_array(f, lambda a: a[:0] if a.ndim else a)),
    "structures with objects": arrays(lambda f: first(f, np.array([(1, Boom())], [("a", "i4"), ("b", "O")]))),
    "no arrays": arrays(lambda f: f.clear()),
    "an array that would fill the memory": members(lambda f: header(f, says("<f8", 10**12))),
    "an array of negative length": members(lambda f: header(f, says("<f8", -1))),
    "code for a header": members(lambda f: header(f, "__import__('os').system('touch boom')")),
    "a header with a call": members(lambda f: header(f, "{'descr': exec('1'), 'shape': (1,)}")),
    "a header without an end": members(lambda f: put(f, "a0.npy", value=b"\x93NUMPY\x01\x00\xff\xff")),
    "a member above": members(lambda f: put(f, f"../../../{SECRET}", value=b"x")),
    "a member that is no array": members(lambda f: put(f, "a0.npy", value=b"import os; os.system('touch boom')")),
    "a bomb": members(lambda f: put(f, "a0.npy", value=BOMB), compression=zipfile.ZIP_DEFLATED),
    "no zip": text("arrays.npz", b"not a zip"),
    "a pickle for a zip": text("arrays.npz", b"\x80\x04cos\nsystem\n(S'touch boom'\ntR."),
    "a link for the state": link("state.json"),
    "a link for the arrays": link("arrays.npz"),
    "a link for the manifest": link("manifest.json"),
}
RESUMES: dict[str, Callable[[Path], None]] = {
    "run is a list": state(lambda s: put(s, "run", value=[])),
    "steps are a word": state(lambda s: put(s, "run", "agent_steps", value="many")),
    "steps are negative": state(lambda s: put(s, "run", "agent_steps", value=-5)),
    "steps are too many": state(lambda s: put(s, "run", "agent_steps", value=10**400)),
    "steps are true": state(lambda s: put(s, "run", "agent_steps", value=True)),
    "no updates": state(lambda s: put(s, "run", value={"agent_steps": 5, "frames": 5, "latest": None})),
    "seconds are infinite": state(lambda s: put(s, "time", "seconds", value=float("inf"))),
    "seconds are a list": state(lambda s: put(s, "time", "seconds", value=[1])),
    "marks are negative": state(lambda s: put(s, "time", "metrics", "bytes", value=-1)),
    "no marks": state(lambda s: put(s, "time", "metrics", value=None)),
    "marks of other measurements": state(lambda s: put(s, "time", "metrics", "sha256", value="0" * 64)),
    "losses are words": state(lambda s: put(s, "run", "latest", value={"loss/td": "low"})),
    "episodes are nothing": state(lambda s: put(s, "episodes", value=None)),
    "episodes of others": state(lambda s: put(s, "episodes", "return", value=[1.0, 2.0])),
    "finished episodes are words": state(lambda s: put(s, "episodes", "finished", value=[["a", "b"]])),
    "environments are a word": state(lambda s: put(s, "env", value="here")),
    "environments are empty": state(lambda s: put(s, "env", value={"state": {}, "first": True})),
    "an episode that is none": state(lambda s: put(s, "env", "state", value={"episode": "x", "actions": []})),
}


def config(line: str, by: str) -> Callable[[Path], None]:
    def attack(run: Path) -> None:
        path = run / "config.toml"
        old = path.read_text()
        assert old.count(line) == 1, (line, old)
        path.write_text(old.replace(line, by))

    return attack


def linked(name: str) -> Callable[[Path], None]:
    def attack(run: Path) -> None:
        secret = run.parent / SECRET
        secret.write_bytes((run / name).read_bytes())
        (run / name).unlink()
        (run / name).symlink_to(secret)

    return attack


FOLDERS: dict[str, Callable[[Path], None]] = {
    "os.system for an agent": config('name = "q-learning"', 'name = "os:system"'),
    "a path for an agent": config('name = "q-learning"', f'name = "../../{SECRET}"'),
    "exec for an agent": config('name = "q-learning"', 'name = "builtins:exec"'),
    "os.system for a wrapper": config("\nwrappers = []", '\nwrappers = ["os:system"]'),
    "an evaluation's wrapper from os": config("eval_wrappers = []", 'eval_wrappers = ["os:system"]'),
    "eval for a wrapper": config("\nwrappers = []", '\nwrappers = ["builtins:eval"]'),
    "a module that opens a browser": config('id = "FrozenLake-v1"', 'id = "antigravity:FrozenLake-v1"'),
    "a path for an environment": config('id = "FrozenLake-v1"', f'id = "../../{SECRET}"'),
    "a path for a protocol": config('protocol = "toy-text"', f'protocol = "../../{SECRET}"'),
    "more environments than fit": config("num_envs = 1", "num_envs = 1000000000000"),
    "a section that there is not": config("[run]", "[exec]\nx = 1\n[run]"),
    "settings are no TOML": config("[run]", "[run"),
    "settings are a link": linked("config.toml"),
    "measurements are a link": linked("metrics.jsonl"),
    "a manifest that is a link": linked("manifest.json"),
    "a summary that is a link": linked("summary.json"),
}


def victim(run: Path) -> Path:
    folder = run.parent / "victim"
    folder.mkdir(exist_ok=True)
    (folder / "thesis.npz").write_text("years of work")
    return folder


def link_to_victim(name: str, target: str = "") -> Callable[[Path], None]:
    def attack(run: Path) -> None:
        aim = victim(run) / target
        if (run / name).is_dir():
            shutil.rmtree(run / name)
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(aim)

    return attack


def written(name: str, content: str) -> Callable[[Path], None]:
    def attack(run: Path) -> None:
        (run / name).write_text(content)

    return attack


VICTIMS: dict[str, Callable[[Path], None]] = {
    "segments elsewhere": link_to_victim("checkpoints/segments"),
    "checkpoints elsewhere": link_to_victim("checkpoints"),
    "a checkpoint elsewhere": link_to_victim("checkpoints/step-000000009999"),
    "a file half written": link_to_victim(".manifest.json.writing", "thesis.npz"),
    "settings half written": link_to_victim(".config.toml.writing", "thesis.npz"),
    "a probe": link_to_victim(".writing", "new"),
    "a lock": link_to_victim(".lock", "thesis.npz"),
}
MANIFESTS = ("{", "[]", "{}", "null", '{"protocol": {"hash": 5}}', '{"protocol": "x", "versions": {}}')
FOLDERS |= {f"a manifest of {text}": written("manifest.json", text) for text in MANIFESTS}


def outcome(action: Callable[[], Any]) -> str:
    from qladder.envs.errors import EnvironmentFaultError, StorageError, UserError

    try:
        action()
    except (UserError, EnvironmentFaultError, StorageError) as error:
        return f"refused: {error}"
    except BaseException as error:
        return f"RAISED {type(error).__name__}: {error}"
    return "accepted"


def victim_files(place: Path) -> list[Path]:
    return sorted(path for path in (place / "victim").rglob("*") if path.is_file())


def main() -> None:
    good, table, scratch = map(Path, sys.argv[1:])
    from qladder.runners import load, train

    def resume(run: Path) -> Any:
        longer = {"run": {"steps": 900}}
        return train(config=run / "config.toml", out=run.parent, name=run.name, resume=True, settings=longer)

    told: dict[str, Any] = {}
    everything = [
        *((f"deep: {name}", good, attack, "checkpoints") for name, attack in CHECKPOINTS.items()),
        *((f"table: {name}", table, attack, "checkpoints") for name, attack in CHECKPOINTS.items() if "array" in name),
        *((f"resume: {name}", table, attack, "resumes") for name, attack in RESUMES.items()),
        *((f"folder: {name}", table, attack, "folders") for name, attack in FOLDERS.items()),
        *((f"victim: {name}", table, attack, "folders") for name, attack in VICTIMS.items()),
    ]
    sys.addaudithook(hook)
    for number, (name, kind, attack, where) in enumerate(everything):
        place = scratch / str(number)
        shutil.copytree(kind, place / "run")
        for name_ in (SECRET, f"{SECRET}.npz"):
            (place / name_).write_text("secret")
        run = place / "run"
        for target in [run] if where == "folders" else sorted((run / "checkpoints").glob("step-*")):
            attack(target)
        SEEN.clear()
        told[name] = {"load": outcome(lambda run=run: load(run)), "resume": outcome(lambda run=run: resume(run))}
        hurt = name.startswith("victim") and [p.read_text() for p in victim_files(place)] != ["years of work"]
        told[name]["events"] = [*SEEN, *(["the victim is hurt"] if hurt else [])]
        shutil.rmtree(place)
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
