"""Which speakers live: by renewals that are seen, and only while one's own are seen."""

from clarion.base import limits
from clarion.daemons.liveness import INTERFACES_ANNOTATION, SpeakerLiveness, lease_name
from clarion.model.core import Lease, LeaseSpec
from clarion.model.meta import ObjectMeta

from .daemons_kit import StillClock

RENEW = limits.SPEAKER_LEASE_RENEW_SECONDS
DURATION = limits.SPEAKER_LEASE_DURATION_SECONDS


class Scene:
    """The speaker of node `me` watches the Leases of others."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.liveness = SpeakerLiveness("me", self.clock)
        self.renewals = 0

    def renew(self, *nodes: str, interfaces: str | None = None) -> bool:
        """These speakers renew, and it is seen; whether any was news."""
        self.renewals += 1
        notes = {} if interfaces is None else {INTERFACES_ANNOTATION: interfaces}
        news = []
        for node in nodes:
            meta = ObjectMeta(name=lease_name(node), namespace="s", annotations=notes)
            spec = LeaseSpec(
                holder_identity=node,
                lease_duration_seconds=round(DURATION),
                renew_time=f"2026-01-01T00:00:{self.renewals:02}.000000Z",
            )
            news.append(self.liveness.observe(meta.name, Lease(metadata=meta, spec=spec)))
        return any(news)

    def live(self, seconds: float, *nodes: str) -> None:
        """Time passes while these renew."""
        end = self.clock.at + seconds
        while self.clock.at < end:
            self.clock.at += RENEW
            self.renew(*nodes)
            self.liveness.alive()

    @property
    def alive(self) -> set[str]:
        return set(self.liveness.alive())


def test_nobody_is_judged_before_ones_own_renewal_is_seen() -> None:
    scene = Scene()
    scene.renew("other")
    assert scene.alive == set()
    assert scene.liveness.blind
    scene.renew("me")
    assert scene.alive == {"me", "other"}
    assert not scene.liveness.blind


def test_a_speaker_that_stops_renewing_dies_after_its_duration() -> None:
    scene = Scene()
    scene.renew("me", "other")
    scene.live(2 * DURATION, "me", "other")
    scene.live(DURATION - RENEW, "me")
    assert scene.alive == {"me", "other"}
    scene.live(RENEW, "me")
    assert scene.alive == {"me"}


def test_a_speaker_that_says_goodbye_is_gone_at_once() -> None:
    scene = Scene()
    scene.renew("me", "other")
    assert scene.alive == {"me", "other"}
    assert scene.liveness.observe(lease_name("other"), None)
    assert scene.alive == {"me"}


def test_an_outage_freezes_the_answer_and_its_end_gives_everybody_a_full_duration() -> None:
    scene = Scene()
    scene.renew("me", "other", "third")
    scene.live(2 * DURATION, "me", "other", "third")
    for _ in range(20):
        scene.clock.at += RENEW
        assert scene.alive == {"me", "other", "third"}
    assert scene.liveness.blind
    assert scene.renew("me"), "the view is back: look again"
    assert scene.alive == {"me", "other", "third"}
    scene.live(DURATION - 2 * RENEW, "me", "other")
    assert scene.alive == {"me", "other", "third"}
    scene.live(2 * RENEW, "me", "other")
    assert scene.alive == {"me", "other"}


def test_a_node_whose_own_renewals_are_not_seen_judges_nobody() -> None:
    scene = Scene()
    scene.renew("me", "other")
    scene.live(DURATION, "me", "other")
    scene.live(5 * DURATION, "other")
    assert scene.liveness.blind
    scene.clock.at += 10 * DURATION
    assert scene.alive == {"me", "other"}


def test_a_renewal_by_somebody_who_lives_is_no_news() -> None:
    scene = Scene()
    assert scene.renew("me", "other")
    assert scene.alive == {"me", "other"}
    scene.clock.at += RENEW
    assert not scene.renew("me", "other")
    scene.live(2 * DURATION, "me")
    assert scene.alive == {"me"}
    assert scene.renew("other"), "it came back to life"
    assert scene.alive == {"me", "other"}


def test_interfaces_are_what_the_leases_tell() -> None:
    scene = Scene()
    scene.renew("me", interfaces="")
    assert scene.renew("other", interfaces="eth0,eth1")
    scene.alive  # noqa: B018 - it is asked for its effect
    assert scene.liveness.interfaces() == {"me": (), "other": ("eth0", "eth1")}
    assert not scene.renew("other", interfaces="eth0,eth1")
    assert scene.renew("other", interfaces="eth0")
    assert scene.liveness.interfaces()["other"] == ("eth0",)
    scene.liveness.observe(lease_name("other"), None)
    assert "other" not in scene.liveness.interfaces()


def test_the_next_look_is_due_when_the_first_could_be_dead() -> None:
    scene = Scene()
    assert scene.liveness.recheck_in() == DURATION
    scene.renew("me", "other")
    scene.clock.at += RENEW
    assert scene.liveness.recheck_in() == DURATION - RENEW
    scene.renew("me")
    assert scene.liveness.recheck_in() == DURATION - RENEW
