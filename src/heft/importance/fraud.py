"""Whether a row's visitor behaves like a person."""

from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.behaviour_profile import Profile, profile_of
from heft.importance.people_clicks import PeopleClicks, code_of
from heft.importance.registry import register
from heft.importance.visitor_mixture import VisitorMixture

__all__ = ["Fraud"]

Array = np.ndarray


@register("fraud")
class Fraud:
    """P(the visitor of a row is a person), from clicks alone, without labels.

    All that a user did is judged together: by Bayes' rule over people, who click by
    examination and attractiveness (Richardson, Dominowska & Ragno 2007, Predicting
    Clicks), and five kinds of bots, which do not: uniform, hammer (the first
    position), competitor (one product), stealth (by rank, but blind to relevance)
    and other. Shares, rates, delays and tempo of each kind are learned from the log
    (EM, Dempster, Laird & Rubin 1977); nothing about a bot is given but its habit.
    Three rounds of it: the people's click model is fitted again without the bots.

    One or two result pages seldom prove anything: scores of users with few clicks
    stay near the share of people. Without `user` every request stands alone, and
    little but impossible delays can be detected. An account that a person and a
    script share gets one score. A competitor's product is known by its pair, so
    one who follows it over many queries looks like `other`.

    Wants clicks as labels, not conversions. Uses `click_delay`, `timestamp` and
    `relevance` where the data has them.

    For data in shards: `fit` on a sample, `profile` each shard (whole requests),
    `merge_profiles`, then `fit_profile`; scores are then a look-up by user.

    Whose clicks go by rank alone, like stealth bots', is hardly told from people
    in the few pages that people have; how often they come helps where bots come more
    often, by 3 nats at most.

    Cost: rounds · O(rows · 18 + users · 71 · 60) time: 8 s for 387,000 rows of 11,000
    users, 15 s for as many of 57,000. 1.7 kB a user and 72 bytes a row of memory
    beside the data. Scores of users that were met are a look-up; of others, 3 s a
    million rows. Pickled it has no row of `fit`: 16 bytes for each distinct (user,
    pair), 24 a pair and 64 a user, so at most 104 a row; 20 a row in that log.

    Args:
        maximum_share: of users that may be bots, in (0, 1).
        burden: people that are believed beforehand, per user of the log; at least 0.
            More of it misses more bots and loses fewer people.
        drop_below: users with a score up to this weigh nothing.
        keep_above: users with a score from this on weigh 1.
        rounds: of model and judgement, at least 1.
        random_state: of the sample of pairs, where there are over 100,000.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        maximum_share: float = 0.3,
        burden: float = 0.5,
        drop_below: float = 0.05,
        keep_above: float = 0.5,
        rounds: int = 3,
        random_state: int = 0,
    ) -> None:
        if not 0 < maximum_share < 1:
            raise ConfigError(f"maximum_share={maximum_share}: expected between 0 and 1")
        if not burden >= 0:
            raise ConfigError(f"burden={burden}: expected at least 0")
        if not 0 <= drop_below < keep_above <= 1:
            raise ConfigError(
                f"drop_below={drop_below} must be below keep_above={keep_above}, both in [0, 1]"
            )
        if rounds < 1:
            raise ConfigError(f"rounds={rounds}: expected at least 1")
        self.maximum_share = maximum_share
        self.burden = burden
        self.drop_below = drop_below
        self.keep_above = keep_above
        self.rounds = rounds
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns how people click, and which of the users do not.

        Raises:
            DataError: no row was clicked, or every row was.
        """
        clicks = int(np.sum(data.label))
        if clicks in (0, len(data)):
            raise DataError(
                f"{clicks} of {len(data)} rows are clicks: expected some and not all, to tell how "
                "people click; fit fraud on the click task"
            )
        user, person = _visitor(data), np.ones(len(data))
        # Many products of small matrices: threads would wait for each other.
        with threadpool_limits(1, "blas"):
            for _ in range(self.rounds):
                self.clicks_ = PeopleClicks(self.random_state).fit(data, user, person)
                self.fit_profile(self.profile(data))
                person = self.known_[np.searchsorted(self.users_, user), 0]
        return self

    def fit_profile(self, profile: Profile) -> Self:
        """Judges the users of a profile, in place of those of `fit`."""
        check_fitted(self, "clicks_")
        mixture = VisitorMixture(self.maximum_share, self.burden)
        self.mixture_ = mixture.fit(profile, self.clicks_.theta_)
        self.users_, self.known_ = profile.user, self.mixture_.posterior(profile)
        return self

    def profile(self, data: ImportanceData) -> Profile:
        """What is to know of the users of `data`; see `merge_profiles`."""
        check_fitted(self, "clicks_")
        user = _visitor(data)
        return profile_of(data, user, self.clicks_, user)

    def kinds(self, data: ImportanceData) -> Array:
        """(n, 6) float64: P(kind) of each row's user, in the order of `KINDS`.

        Users that `fit` or `fit_profile` has seen are looked up, the rows of
        others are judged together.
        """
        check_fitted(self, "known_")
        user = _visitor(data)
        place, known = code_of(user, self.users_)
        kinds = self.known_[place]
        if not known.all():
            new = self.profile(data.take(~known))
            judged = self.mixture_.posterior(new)
            kinds[~known] = judged[np.searchsorted(new.user, user[~known])]
        return np.asarray(kinds)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in [0, 1]: P(person) of each row's user."""
        return self.kinds(data)[:, 0].astype(np.float32)

    def score_requests(self, data: ImportanceData) -> Array:
        """(n,) float32 in [0, 1]: P(person) of each row's request, taken alone."""
        check_fitted(self, "known_")
        if not len(data):
            return np.empty(0, np.float32)
        profile = profile_of(data, data.group, self.clicks_, _visitor(data))
        judged = self.mixture_.posterior(profile, requests=True)[:, 0]
        return judged[np.searchsorted(profile.user, data.group)].astype(np.float32)

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32 in [0, 1]: 0 up to `drop_below`, 1 from `keep_above`, linear between.

        Whoever is likelier a person than not counts in full: the many who came
        once must not pay for the few bots.
        """
        span = self.keep_above - self.drop_below
        return np.clip((self.score(data) - self.drop_below) / span, 0, 1).astype(np.float32)


def _visitor(data: ImportanceData) -> Array:
    """(n,) int64; a request stands for its user where users are not known."""
    return data.group if data.user is None else data.user
