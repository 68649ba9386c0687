"""Protocols' rules of one's own: what they change, what they are called, and what does not compare with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qladder.envs.errors import UserError
from qladder.runners.compare import compare
from qladder.runners.config import resolve
from qladder.runners.loading import make_environment
from qladder.runners.protocols import load_protocol
from qladder.runners.run_folder import same_run, write_config
from qladder.runners.runs import find_runs, read_run
from qladder.runners.suite import run_suite
from qladder.runners.training import train

PONG = "ALE/Pong-v5"


def test_rules_lie_over_the_protocol_and_give_it_another_name_and_hash(tmp_path: Path) -> None:
    flags = {"protocol": {"sticky": 0, "episode_cap": "none", "evaluation": {"epsilon": 0.05}}}
    config, plain = resolve("dqn", PONG, flags), resolve("dqn", PONG, {})
    protocol = config.protocol
    assert protocol.name == "machado-2018 (sticky=0.0, episode_cap=none, evaluation.epsilon=0.05)"
    assert (protocol.sticky, protocol.episode_cap, protocol.evaluation.epsilon) == (0.0, None, 0.05)
    assert (protocol.frame_skip, protocol.evaluation.episodes) == (4, 100)
    assert protocol.hash != plain.protocol.hash
    write_config(tmp_path, config)
    again = resolve(None, None, {}, tmp_path / "config.toml")
    assert (again.protocol, again.table()) == (protocol, config.table())


def test_rules_that_are_the_protocols_own_change_nothing() -> None:
    flags = {"protocol": {"sticky": 0.25, "evaluation": {"episodes": 100}}}
    config, plain = resolve("dqn", PONG, flags), resolve("dqn", PONG, {})
    assert config.protocol == plain.protocol == load_protocol("machado-2018")
    assert config.table() == plain.table()
    assert "protocol" not in config.table()


def test_rules_that_another_protocol_has_are_that_one(tmp_path: Path) -> None:
    full = load_protocol("nature-full-games")
    rules = {"evaluation": {"epsilon": full.evaluation.epsilon, "episodes": full.evaluation.episodes}}
    rules["evaluation"]["episode_cap"] = "none"  # type: ignore[assignment]
    config = resolve("dqn", PONG, {"env": {"protocol": "nature-2015"}, "protocol": rules})
    assert config.protocol == full
    write_config(tmp_path, config)
    assert resolve(None, None, {}, tmp_path / "config.toml").protocol == full


def test_a_run_that_has_only_its_settings_keeps_its_rules(tmp_path: Path) -> None:
    """Killed before its manifest was written."""
    ruled, plain = resolve("dqn", PONG, {"protocol": {"sticky": 0}}), resolve("dqn", PONG, {})
    write_config(tmp_path, ruled)
    same_run(tmp_path, ruled)
    with pytest.raises(UserError, match=r"protocol.sticky was 0.0 and is None now"):
        same_run(tmp_path, plain)
    write_config(tmp_path, plain)
    with pytest.raises(UserError, match=r"protocol.sticky was None and is 0.0 now"):
        same_run(tmp_path, ruled)


@pytest.mark.parametrize(
    ("env", "kwargs", "rules", "said"),
    [
        (PONG, {}, {"sticky": 1.5}, r"protocol.sticky = 1.5: input should be less than or equal to 1"),
        (PONG, {}, {"stiky": 0}, r"protocol.stiky: is no rule of ALE/Pong-v5; did you mean 'sticky'"),
        (PONG, {}, {"repeat_action_probability": 0}, r"; it is --protocol.sticky"),
        (PONG, {}, {"episodes": 30}, r"; it is --protocol.evaluation.episodes"),
        (PONG, {}, {"noop_max": 3_000_000_000}, r"protocol.noop_max = 3000000000: input should be less"),
        (PONG, {}, {"stack": 100_000}, r"protocol.stack = 100000: input should be less"),
        (
            PONG,
            {},
            {"evaluation": {"last_steps": 9}},
            r"protocol.evaluation.last_steps: the score is not that of the tr",
        ),
        (PONG, {}, {"score": "training", "evaluation": {"epsilon": 0.1}}, r"evaluation.epsilon: the score is that of"),
        (PONG, {}, {"name": "mine"}, r"protocol.name: is no rule of ALE/Pong-v5"),
        (PONG, {}, {"evaluation": 3}, r"protocol.evaluation = 3: must be a table of fields"),
        (PONG, {}, {"evaluation": {"epsilon": -1}}, r"protocol.evaluation.epsilon = -1: input should be"),
        (PONG, {"obs_type": "ram"}, {"stack": 2}, r"protocol.stack: is no rule of ALE/Pong-v5; did"),
        ("CartPole-v1", {}, {"sticky": 0.1}, r"protocol.sticky: is no rule of CartPole-v1; there are clip_rewards, sc"),
        (
            "CartPole-v1",
            {},
            {"episode_cap": 9},
            r"is no rule of CartPole-v1: --env.kwargs.max_episode_steps N limits",
        ),
    ],
)
def test_what_is_no_rule_is_refused(env: str, kwargs: dict[str, Any], rules: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        resolve("dqn", env, {"env": {"kwargs": kwargs}, "protocol": rules})


def test_a_rule_is_found_by_its_name_elsewhere() -> None:
    for name, ours in (("frameskip", "frame_skip"), ("repeat_action_probability", "sticky")):
        with pytest.raises(UserError, match=f"it is --protocol.{ours}"):
            resolve("dqn", PONG, {"env": {name: 1}})
    config = resolve("random", PONG, {"env": {"kwargs": {"frameskip": 1}}})
    with pytest.raises(UserError, match=r"not frameskip = 1 .*--protocol\.RULE VALUE changes a rule"):
        make_environment(config, True)


def test_the_game_follows() -> None:
    rules = {"full_action_space": True, "screen": 42, "stack": 2, "frame_skip": 3}
    env = make_environment(resolve("dqn", PONG, {"protocol": rules}), True)
    assert (env.spec.num_actions, env.spec.obs_shape, env.spec.frames_per_step) == (18, (2, 42, 42), 3)
    assert env.reset().shape[1:] == (2, 42, 42)
    env.close()


def test_runs_by_other_rules_do_not_compare_and_keep_them(tmp_path: Path) -> None:
    settings = {"run": {"steps": 60}}
    own = {**settings, "protocol": {"evaluation": {"episodes": 3}}}
    plain = train("random", "CartPole-v1", settings=settings, out=tmp_path, name="plain")["run"]
    ruled = train("random", "CartPole-v1", settings=own, out=tmp_path, name="ruled")["run"]
    found = read_run(Path(ruled))
    assert found.protocol.name == "classic (evaluation.episodes=3)"
    assert found.evaluation is not None
    assert found.evaluation.episodes == 3
    assert read_run(Path(plain)).settings_hash != found.settings_hash
    runs = find_runs([tmp_path])
    with pytest.raises(UserError, match=r"differ in evaluation.episodes \(3, 100\)"):
        compare(*runs)
    labels = {score.agent for score in compare(*runs, mix_protocols=True).scores}
    assert labels == {"random [evaluation.episodes 100]", "random [evaluation.episodes 3]"}
    with pytest.raises(UserError, match=r"protocol was classic \(evaluation.episodes=3\) and is classic now"):
        train("random", "CartPole-v1", settings=settings, out=tmp_path, name="ruled", resume=True)


def test_a_suite_says_whether_protocols_may_differ(tmp_path: Path) -> None:
    """In clipped rewards alone, which training sees: refused before anything runs, unless the file asks for it."""
    task = '[[task]]\nagent = "random"\nenv = "CartPole-v1"\nsteps = 60\nsettings.protocol.evaluation.episodes = 2\n'
    tasks = f'{task}\n{task}label = "clipped"\nsettings.protocol.clip_rewards = true\n'
    file, out = tmp_path / "clipped.toml", tmp_path / "out"
    file.write_text(f'summary = ""\nseeds = 2\n{tasks}')
    with pytest.raises(
        UserError,
        match=r"suite task 2: CartPole-v1 follows protocol classic .*clip_rewards=true.* here .* mix_protocols = true",
    ):
        run_suite(str(file), out=str(out))
    assert not out.exists()
    file.write_text(f'summary = ""\nseeds = 2\nmix_protocols = true\n{tasks}')
    told = run_suite(str(file), out=str(out))
    assert told.failed == []
    assert [score.agent.partition(" [")[0] for score in told.comparison.scores] == ["clipped", "random"]
    assert told.report is not None
    assert "clip_rewards=true" in told.report.read_text()
