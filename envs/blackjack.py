"""Gymnasium's Blackjack as a finite MDP: an infinite deck, and a dealer who draws to 17.

A state is the player's sum, the dealer's shown card and whether the player has a usable ace, numbered in that order as
in the (32, 11, 2) observation space. The dealer's hidden card moves nothing before the player sticks, so it is averaged
out exactly. One thing matters that the observation does not tell: whether 21 with a usable ace is a natural, the two
cards dealt. A natural is therefore a state of its own, one per shown card above all others, observed as plain 21.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from functools import cache

STICK, HIT = 0, 1
CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}  # 1 is an ace; ten and the faces count 10
NUM_OBSERVATIONS = 32 * 11 * 2

Hand = tuple[int, bool]  # sum, usable ace
EMPTY: Hand = (0, False)


def observation(hand: Hand, shown: int) -> int:
    """The number of what the player sees."""
    total, ace = hand
    return (total * 11 + shown) * 2 + ace


def observations() -> list[int]:
    """The observation of each state: itself, then 21 with a usable ace for the ten naturals."""
    return [*range(NUM_OBSERVATIONS), *(observation((21, True), shown) for shown in CARDS)]


def natural_state(shown: int) -> int:
    """The state of a natural against the dealer's shown card."""
    return NUM_OBSERVATIONS + shown - 1


def start() -> dict[int, float]:
    """The probability of each state after the deal."""
    probability: dict[int, float] = defaultdict(float)
    for shown, first, second in itertools.product(CARDS, repeat=3):
        hand = add(add(EMPTY, first), second)
        state = natural_state(shown) if hand[0] == 21 else observation(hand, shown)
        probability[state] += CARDS[shown] * CARDS[first] * CARDS[second]
    return dict(probability)


def outcomes(natural: bool, sab: bool) -> Iterator[tuple[int, int, float, int, float, bool]]:
    """Each (state, action, probability, next state, reward, terminated) under Gymnasium's flags of these names."""
    hands = [(total, False) for total in range(4, 22)] + [(total, True) for total in range(12, 22)]
    for shown in CARDS:
        cases = [(observation(hand, shown), hand, False) for hand in hands]
        cases.append((natural_state(shown), (21, True), True))
        for state, hand, has_natural in cases:
            for reward, probability in settle(hand[0], has_natural, shown, natural, sab).items():
                yield state, STICK, probability, state, reward, True
            for card, probability in CARDS.items():
                drawn = add(hand, card)
                bust = drawn[0] > 21
                yield state, HIT, probability, observation(drawn, shown), -float(bust), bust


def add(hand: Hand, card: int) -> Hand:
    """The hand with one more card; an ace counts 11 while that does not bust."""
    total, ace = hand[0] + card, hand[1]
    if card == 1 and not ace and total + 10 <= 21:
        return total + 10, True
    if ace and total > 21:
        return total - 10, False
    return total, ace


def settle(total: int, has_natural: bool, shown: int, natural: bool, sab: bool) -> dict[float, float]:
    """The probability of each reward when the player sticks."""
    rewards: dict[float, float] = defaultdict(float)
    for (score, dealer_natural), probability in _dealer_scores(shown).items():
        reward = float(total > score) - float(total < score)
        if sab and has_natural and not dealer_natural:
            reward = 1.0
        elif natural and not sab and has_natural and reward == 1.0:
            reward = 1.5
        rewards[reward] += probability
    return dict(rewards)


@cache
def _dealer_scores(shown: int) -> dict[tuple[int, bool], float]:
    """The probability of the dealer's final (score, is a natural); a bust scores 0."""
    scores: dict[tuple[int, bool], float] = defaultdict(float)
    for hidden, probability in CARDS.items():
        hand = add(add(EMPTY, shown), hidden)
        for score, chance in _drawn_out(hand).items():
            scores[score, hand[0] == 21] += probability * chance
    return dict(scores)


@cache
def _drawn_out(hand: Hand) -> dict[int, float]:
    """The probability of each final score of a dealer who holds `hand`."""
    if hand[0] >= 17:
        return {hand[0] if hand[0] <= 21 else 0: 1.0}
    scores: dict[int, float] = defaultdict(float)
    for card, probability in CARDS.items():
        for score, chance in _drawn_out(add(hand, card)).items():
            scores[score] += probability * chance
    return dict(scores)
