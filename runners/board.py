"""What TensorBoard gets beside scalars: a run's settings, to filter by, and one run for all seeds of an agent."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qladder.envs.seeding import generator
from qladder.runners.config import Config
from qladder.runners.curves import CLOCKS, aggregate
from qladder.runners.groups import Group
from qladder.runners.likeness import settings_hash
from qladder.runners.run_folder import safe_name
from qladder.runners.stats import Floats, iqm_rows

SEEDS = "all-seeds"
"""The folder beside the runs of a suite."""
RESAMPLES = 500
LONGEST = 100  # characters of a folder's name


def settings_event(config: Config) -> Any:
    """The event that makes a run's settings columns of the HParams dashboard, where seeds are one trial."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME, SESSION_START_INFO_TAG
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    trial = f"{config.label} on {config.env.id} #{settings_hash(config)[:6]}"
    start = SessionStartInfo(group_name=trial, start_time_secs=time.time())
    for name, value in columns(config).items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[name].number_value = value
        else:
            start.hparams[name].string_value = str(value)
    content = HParamsPluginData(session_start_info=start, version=PLUGIN_DATA_VERSION).SerializeToString()
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content))
    value = Summary.Value(tag=SESSION_START_INFO_TAG, metadata=metadata)
    return Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))


def columns(config: Config) -> dict[str, Any]:
    """A run's settings without sections, nested names joined by dots; lists as text."""
    told: dict[str, Any] = {}

    def add(prefix: str, table: Mapping[str, Any]) -> None:
        for name, value in table.items():
            if isinstance(value, Mapping):
                add(f"{prefix}{name}.", value)
            else:
                told[f"{prefix}{name}"] = " ".join(map(str, value)) if isinstance(value, list) else value

    add("", {"label": config.label, "protocol_hash": config.protocol.hash, **config.table()})
    return told


def write_seeds(grouped: Iterable[Group], folder: Path) -> None:
    """Of each agent on each environment three runs, `iqm`, `low` and `high`: its evaluations over all seeds, with band.

    TensorBoard shows them as `all-seeds/ENV/AGENT/...`, each environment in a chart of its own. What was there of an
    earlier call is replaced.
    """
    place = folder / SEEDS
    shutil.rmtree(place, ignore_errors=True)
    taken: set[Path] = set()
    for group in grouped:
        curve = aggregate(group.runs, CLOCKS[0])
        if not curve.x.size:
            continue
        values = np.stack([np.interp(curve.x, x, y) for x, y in curve.seeds])
        iqm, low, high = _band(values)
        for name, points in {"iqm": iqm, **({} if len(values) == 1 else {"low": low, "high": high})}.items():
            where = place / safe_name(group.env)[:LONGEST] / safe_name(group.label)[:LONGEST] / name
            while where in taken:  # names that differ in what a folder's may not hold
                where = where.parent.with_name(f"{where.parent.name}-") / name
            taken.add(where)
            _write(where, f"all seeds/{group.env}", curve.x, points)


def _band(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Of `[n, K]` the IQM over n seeds, and where 95 % of those of seeds drawn again lie, each `[K]`."""
    rng = generator(0, "bootstrap")
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    draws = iqm_rows(np.moveaxis(drawn, 1, 2).reshape(-1, len(values))).reshape(RESAMPLES, -1)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return iqm_rows(values.T), low, high


def _write(folder: Path, tag: str, steps: Floats, values: Floats) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for step, value in zip(steps.tolist(), values.tolist(), strict=True):
        point = Summary.Value(tag=tag, simple_value=value)
        writer.add_event(Event(wall_time=time.time(), step=round(step), summary=Summary(value=[point])))
    writer.close()
