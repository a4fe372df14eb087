"""From objects to `Config`, with every problem at once.

An object with an error is set aside and reported; what does not depend on it goes on working. Where
the last good configuration is given, the last good version of such an object stays in force.
"""

from collections.abc import Iterator
from itertools import groupby

import msgspec

from clarion.decide.config_ads import build_bgp, build_l2
from clarion.decide.config_annotations import annotation_warnings
from clarion.decide.config_build import Build, ref
from clarion.decide.config_cluster import service_warnings, warn_of_nodes, warn_of_peers
from clarion.decide.config_peers import build_bfd, build_peers
from clarion.decide.config_pools import build_aliases, build_pools, with_advertisements
from clarion.decide.problems import Problem
from clarion.decide.settings import BGPSettings, Config, L2Settings, Peer, Pool
from clarion.decide.snapshot import Snapshot
from clarion.model.meta import KubeObject

EMPTY = Config()


class ConfigResult(msgspec.Struct, frozen=True):
    """A configuration that can be used, and everything that is wrong with what it was made of."""

    config: Config
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that set an object aside."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def build_config(snapshot: Snapshot, previous: Config = EMPTY) -> ConfigResult:
    """Check all configuration objects of a snapshot.

    Args:
        snapshot: The objects; nodes, namespaces and secrets are read too.
        previous: The configuration in force, whose entries replace objects that became invalid.
    """
    build = Build(snapshot)
    aliases = build_aliases(build)
    pools = build_pools(build, previous.pools)
    l2 = build_l2(build, pools, previous.l2)
    bgp = build_bgp(build, pools, aliases, previous.bgp)
    bfd_profiles = build_bfd(build, previous.bfd_profiles)
    peers = build_peers(build, previous.peers)
    pools = {name: _attach(pool, l2, bgp) for name, pool in pools.items()}
    config = Config(
        lost_pools=frozenset(obj.name for obj in snapshot.pools) - pools.keys(),
        pools=pools,
        l2=l2,
        bgp=bgp,
        peers=peers,
        bfd_profiles=bfd_profiles,
    )
    _warn_unadvertised(build, config)
    if snapshot.options.backend != "native":
        config = _without_ipv6_echo(build, config)
    warn_of_nodes(build, config)
    warn_of_peers(build, config)
    build.problems.extend(annotation_warnings(_configuration(snapshot)))
    build.problems.extend(service_warnings(snapshot, config))
    problems = sorted(build.problems, key=lambda problem: problem.order)
    return ConfigResult(config, tuple(problem for problem, _ in groupby(problems)))


def _configuration(snapshot: Snapshot) -> Iterator[KubeObject]:
    """The objects that configure us."""
    yield from snapshot.pools
    yield from snapshot.l2_advertisements
    yield from snapshot.bgp_advertisements
    yield from snapshot.peers
    yield from snapshot.bfd_profiles
    yield from snapshot.communities


def _attach(pool: Pool, l2: dict[str, L2Settings], bgp: dict[str, BGPSettings]) -> Pool:
    return with_advertisements(
        pool,
        tuple(name for name, item in l2.items() if pool.name in item.pools),
        tuple(name for name, item in bgp.items() if pool.name in item.pools),
    )


def _warn_unadvertised(build: Build, config: Config) -> None:
    for obj in build.snapshot.pools:
        pool = config.pools.get(obj.name)
        if pool and not pool.l2 and not pool.bgp:
            build.report("pool-not-advertised", obj, "spec", name=obj.name)


def _without_ipv6_echo(build: Build, config: Config) -> Config:
    """Set aside peers whose BFD profile echoes while they are told of IPv6 pools."""
    peers = dict(config.peers)
    for obj in build.snapshot.peers:
        peer = peers.get(obj.name)
        profile = config.bfd_profiles.get(peer.bfd_profile) if peer else None
        if not profile or not profile.echo_mode:
            continue
        for item in build.snapshot.pools:
            pool = config.pools.get(item.name)
            told = pool and any(config.bgp[name].goes_to(obj.name) for name in pool.bgp)
            if pool and told and pool.has_family(6):
                facts = {"profile": obj.spec.bfd_profile, "pool": pool.name}
                build.report("echo-with-ipv6", obj, "spec.bfdProfile", [ref(item)], **facts)
                peers.pop(obj.name, None)
    return msgspec.structs.replace(config, peers=peers)


__all__ = ["EMPTY", "Config", "ConfigResult", "Peer", "build_config"]
