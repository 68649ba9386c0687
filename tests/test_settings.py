"""Settings: layers, flags, and what is refused with which words."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from qladder.agents.schedules import Clocks, Probability
from qladder.envs.errors import UserError
from qladder.runners.config import resolve
from qladder.runners.likeness import settings_hash, settings_hash_of
from qladder.runners.protocols import load_protocol, protocol_names
from qladder.runners.run_folder import write_config
from qladder.runners.settings import ELSEWHERE, dump, merge, parse_flags, read_toml
from qladder.runners.shipped import CONFIGS, agent_names
from qladder.runners.suite_file import load_suite


def test_layers_win_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[agent]\ngamma = 0.5\nhidden = [7]\n[run]\nlog_every = 9\n")
    config = resolve("dqn", "CartPole-v1", {"agent": {"hidden": [3, 4]}}, file)
    assert config.agent.gamma == 0.5  # the file over the shipped
    assert config.agent.hidden == (3, 4)  # flags over the file
    assert config.agent.loss == "mse"  # [env."CartPole-v1"]
    assert config.replay.batch_size == 64  # the family
    assert config.run.learning_starts == 1000  # the agent
    assert config.run.eval_episodes == 5  # the class
    assert config.sources[-2:] == (str(file), "flags")


def test_a_part_of_a_schedule_keeps_the_number_below_it() -> None:
    shipped = resolve("dqn", "ALE/Pong-v5", {}).agent.learning_rate
    given = resolve("dqn", "ALE/Pong-v5", {"agent": {"learning_rate": {"end": 1e-6, "over": 9}}}).agent.learning_rate
    assert shipped.start == shipped.end
    assert (given.start, given.end, given.over) == (shipped.start, 1e-6, 9)


def test_a_date_is_no_setting() -> None:
    with pytest.raises(UserError, match=r"agent\.gamma"):
        resolve("dqn", "CartPole-v1", {"agent": {"gamma": date(2026, 1, 1)}})


def test_a_resolved_table_resolves_to_itself(tmp_path: Path) -> None:
    import tomli_w

    config = resolve("dqn", "CartPole-v1", {"run": {"seed": 3}})
    file = tmp_path / "config.toml"
    file.write_text(tomli_w.dumps(config.table()))
    again = resolve(None, None, {}, file)
    assert again.table() == config.table()
    assert (again.agent, again.replay, again.run, again.env) == (config.agent, config.replay, config.run, config.env)


def test_what_the_settings_of_a_run_do_not_say_is_as_the_class_has_it(tmp_path: Path) -> None:
    """A run of a version that did not know a setting was without what has come to be shipped for it since."""
    config = resolve("iqn", "CartPole-v1", {"agent": {"gamma": 0.9}})
    assert config.agent.huber_delta == 10.0
    write_config(tmp_path, config)
    file = tmp_path / "config.toml"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if not line.startswith("huber_delta")))
    assert resolve(None, None, {}, file).agent.huber_delta == 10.0  # yours, which says what it likes to
    (tmp_path / "manifest.json").write_text("{}")
    told = resolve(None, None, {}, file)
    assert (told.agent.huber_delta, told.agent.gamma, told.sources) == (1.0, 0.9, (str(file),))


def test_an_unknown_part_gets_the_nearest_name() -> None:
    with pytest.raises(
        UserError, match=r"agent\.network = 'impalla': .*'nature-cnn' or 'impala'; did you mean 'impala'"
    ):
        resolve("dqn", "ALE/Pong-v5", {"agent": {"network": "impalla"}})


def test_flags_are_read_as_toml_where_they_can_be() -> None:
    arguments = (
        "train dqn --agent.learning-rate 1e-4 --agent.hidden 64 32 --env.kwargs.map_name=8x8 --run.episodes none --json"
    )
    table, rest = parse_flags(arguments.split())
    assert table == {
        "agent": {"learning_rate": 1e-4, "hidden": [64, 32]},
        "env": {"kwargs": {"map_name": "8x8"}},
        "run": {"episodes": "none"},
    }
    assert rest == ["train", "dqn", "--json"]


def test_short_forms() -> None:
    config = resolve("dqn", "Acrobot-v1", {"agent": {"epsilon": 0.25, "hidden": 64, "max_grad_norm": 5}})
    assert config.agent.epsilon == Probability(0.25, 0.25, 0)
    assert (config.agent.hidden, config.agent.max_grad_norm) == ((64,), 5.0)
    assert resolve("dqn", "Acrobot-v1", {"agent": {"max_grad_norm": "none"}}).agent.max_grad_norm is None


def test_a_part_of_a_schedule_can_be_set() -> None:
    schedule = resolve("dqn", "CartPole-v1", {"agent": {"epsilon": {"end": 0.5}}}).agent.epsilon
    assert schedule == Probability(1.0, 0.5, 10_000)


@pytest.mark.parametrize(
    ("agent", "env", "flags", "said"),
    [
        ("dqm", "CartPole-v1", {}, "agent 'dqm': .*did you mean 'dqn'"),
        ("dqn", "CartPole-v1", {"agent": {"lerning_rate": 1}}, r"agent\.lerning_rate: .*did you mean 'learning_rate'"),
        ("dqn", "CartPole-v1", {"agent": {"loss": "hubr"}}, r"agent\.loss = 'hubr': .*'huber' or 'mse'"),
        ("dqn", "CartPole-v1", {"agent": {"gamma": 1.5}}, r"agent\.gamma = 1\.5: .*less than or equal to 1"),
        ("dqn", "CartPole-v1", {"agent": {"gamma": float("nan")}}, r"agent\.gamma"),
        ("dqn", "CartPole-v1", {"agent": {"gamma": True}}, r"agent\.gamma = True"),
        ("dqn", "CartPole-v1", {"agent": {"epsilon": {"over": -1}}}, r"agent\.epsilon\.over = -1"),
        ("dqn", "CartPole-v1", {"agent": {"epsilon": {"clock": "seconds"}}}, r"agent\.epsilon\.clock = 'seconds'"),
        ("dqn", "CartPole-v1", {"agent": {"epsilon": 1.5}}, r"agent\.epsilon\..* = 1\.5: .*less than or equal to 1"),
        ("q-learning", "Taxi-v4", {"agent": {"epsilon": {"end": 2}}}, r"agent\.epsilon\.end = 2"),
        ("dqn", "CartPole-v1", {"run": {"steps": "many"}}, r"run\.steps = 'many': .*integer"),
        ("dqn", "CartPole-v1", {"run": {"steps": 0}}, r"run\.steps = 0: .*greater than 0"),
        ("dqn", "CartPole-v1", {"runs": {}}, "section 'runs'; did you mean 'run'"),
        ("dqn", "CartPole-v1", {"env": {"protocol": "clasic"}}, "protocol 'clasic': .*did you mean 'classic'"),
        ("dqn", "CartPole-v1", {"env": {"protocol": ""}}, "protocol '': there is no such protocol"),
        ("q-learning", "CartPole-v1", {"replay": {"capacity": 9}}, "q-learning has no replay"),
        (None, "CartPole-v1", {}, "needs AGENT and ENV"),
        ("CartPole-v1", "dqn", {}, "'CartPole-v1' is no agent: AGENT stands before ENV, as in dqn CartPole-v1"),
        ("dqn", "CartPole-v1", {"agent": {"lr": 1}}, r"agent\.lr: .*; it is --agent\.learning_rate"),
        ("dqn", "CartPole-v1", {"agent": {"learning_rate": "fast"}}, "'fast': must be a number, or .start, .end and"),
        ("dqn", "CartPole-v1", {"agent": {"hidden": "64,64"}}, "; several values stand apart: 64 64"),
        ("dqn", "CartPole-v1", {"run": {"steps": 1.5}}, r"run\.steps = 1\.5: .*integer"),
    ],
)
def test_what_does_not_fit_is_said_in_a_line(agent: Any, env: str, flags: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        resolve(agent, env, flags)
    assert "\n" not in str(error.value)


def test_what_other_libraries_call_otherwise_is_there() -> None:
    config = resolve("dqn", "CartPole-v1", {})
    table = {**config.table(), "protocol": dump(config.protocol)}
    for setting in ELSEWHERE.values():
        section, name = setting.split(".")[:2]
        assert name in table[section], setting


def test_a_whole_number_may_be_written_as_a_power_of_ten() -> None:
    config = resolve("dqn", "CartPole-v1", {"run": {"steps": 1e5}, "agent": {"gamma": 1.0}})
    assert (config.run.steps, type(config.run.steps), type(config.agent.gamma)) == (100_000, int, float)


@pytest.mark.parametrize(
    ("flag", "said"),
    [(["--agnt.x", "1"], "did you mean 'agent'"), (["--agent.gamma"], "a value is missing")],
)
def test_flags_that_do_not_fit(flag: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse_flags(flag)


def test_half_written_and_missing_files(tmp_path: Path) -> None:
    half = tmp_path / "half.toml"
    half.write_text("[agent]\ngamma = ")
    with pytest.raises(UserError, match=r"half\.toml is not TOML"):
        read_toml(half)
    with pytest.raises(UserError, match="No such file"):
        read_toml(tmp_path / "none.toml")


def test_a_file_goes_before_a_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(None, None, {}, Path("pong")).protocol.name == "nature-full-games"
    (tmp_path / "pong").write_text('[agent]\nname = "random"\n[env]\nid = "CartPole-v1"\n')
    assert resolve(None, None, {}, Path("pong")).agent_name == "random"
    with pytest.raises(UserError, match="did you mean 'pong'"):
        resolve(None, None, {}, Path("pongg"))


def test_merging_leaves_its_layers_alone() -> None:
    low: dict[str, Any] = {"a": {"b": 1, "c": 2}}
    assert merge(low, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert low == {"a": {"b": 1, "c": 2}}


def test_all_shipped_settings_resolve() -> None:
    ids = ["FrozenLake-v1", "Taxi-v4", "Blackjack-v1", "CartPole-v1", "MountainCar-v0", "LunarLander-v3"]
    for agent in agent_names():
        for env in [*ids, "qladder/Catch-v0", "ALE/Pong-v5", "somebody:Else-v0"]:
            assert resolve(agent, env, {}).agent is not None
    for name in protocol_names():
        assert load_protocol(name).name == name
    for preset in sorted((CONFIGS / "presets").glob("*.toml")):
        assert resolve(None, None, {}, Path(preset.stem)) == resolve(None, None, {}, preset)
    for suite in ("quickstart", "classic", "toy-text"):
        for task in load_suite(suite).tasks:
            resolve(task.agent, task.env, task.table(0))


def test_ataris_settings_are_those_that_were_published() -> None:
    """The network, memory and ratio of Mnih et al. (2015); the optimiser and exploration of Hessel et al. (2018)."""
    config = resolve("dqn", "ALE/Pong-v5", {})
    agent, replay, run = config.agent, config.replay, config.run
    assert (agent.network, agent.hidden, agent.gamma, agent.loss) == ("nature-cnn", (512,), 0.99, "huber")
    assert (replay.capacity, replay.batch_size, replay.n_step) == (1_000_000, 32, 1)
    assert (run.learning_starts, run.updates, run.update_every) == (20_000, 1, 4)
    assert (agent.optimizer, agent.optimizer_eps) == ("adam", 1.5e-4)
    assert agent.target_period * run.update_every == 8_000
    assert [agent.epsilon(Clocks(frames, frames // 4, 0)) for frames in (0, 500_000, 1_000_000)] == [1.0, 0.505, 0.01]
    rainbow = resolve("rainbow", "ALE/Pong-v5", {})
    assert (rainbow.replay.n_step, rainbow.replay.priority_exponent, rainbow.agent.noisy_std) == (3, 0.5, 0.5)
    assert (rainbow.agent.atoms, rainbow.agent.support, rainbow.agent.optimizer_eps) == (51, (-10.0, 10.0), 1.5e-4)
    assert [rainbow.agent.importance(Clocks(0, steps, 0)) for steps in (0, run.steps)] == [0.4, 1.0]


def test_the_hash_of_settings_moves_with_each_but_those_of_the_seed_and_the_machine() -> None:
    config = resolve("dqn", "CartPole-v1", {})
    still: list[str] = []
    for section in ("agent", "replay", "run"):
        for name, value in config.table()[section].items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                another = value + 1 if isinstance(value, int) else value / 2 or 0.5
                other = resolve("dqn", "CartPole-v1", {section: {name: another}})
                still += [name] if settings_hash(other) == settings_hash(config) else []
    assert sorted(still) == ["checkpoint_minutes", "hang_after", "health_every", "log_every", "seed", "threads"]


def test_a_field_that_has_come_since_at_its_default_leaves_a_runs_hash_as_it_was(tmp_path: Path) -> None:
    config = resolve("dqn", "CartPole-v1", {"agent": {"double": True}})
    write_config(tmp_path, config)
    file = tmp_path / "config.toml"
    assert settings_hash_of(tmp_path) == settings_hash(config)
    written = file.read_text()
    older = "\n".join(line for line in written.splitlines() if not line.startswith(("huber_delta", "stress")))
    file.write_text(older)
    assert older != written.rstrip()
    assert settings_hash_of(tmp_path) == settings_hash(config)
    file.write_text(older.replace("double = true", ""))
    assert settings_hash_of(tmp_path) != settings_hash(config)


def test_reading_a_run_imports_nothing_that_its_files_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[agent]\nname = "antigravity:Agent"\n[env]\nid = "X"\n[run]\n')
    with pytest.raises(UserError, match="none of the house"):
        settings_hash_of(tmp_path)


def test_a_protocol_hash_moves_with_what_moves_a_score() -> None:
    from dataclasses import fields, replace

    one = load_protocol("machado-2018")
    assert replace(one, summary="other words", source="elsewhere").hash == one.hash
    seen = {one.hash}
    for whole, wrap in ((one, replace), (one.evaluation, lambda e, **new: replace(one, evaluation=replace(e, **new)))):
        for field in fields(whole):
            if field.name in ("summary", "source", "evaluation"):
                continue
            value = getattr(whole, field.name)
            other = (
                not value if isinstance(value, bool) else f"{value}?" if isinstance(value, str) else (value or 0) + 1
            )
            seen.add(wrap(whole, **{field.name: other}).hash)  # type: ignore[operator]
    assert len(seen) == 1 + len(fields(one)) - 3 + len(fields(one.evaluation))
