"""The reasons of answers and differences, and those that come from what programs report."""

from clarion.decide.reason_rows import no, note, yes

QUESTIONS = (
    yes(
        "address-free",
        "{address} is free in pool {pool}",
        "No service holds it.",
    ),
    note(
        "address-reserved",
        "{address} of pool {pool} is reserved: it is given only on request",
        "The pool's annotation clarion.metallb.io/reserved names the address.",
    ),
    yes("peer-runs", "it runs a session with the peer", "The peer's node selectors match."),
    yes("node-eligible", "it may announce", "Nothing rules the node out."),
    yes(
        "node-eligible-bgp",
        "it may announce by BGP",
        "The node is not Ready: that rules it out for layer 2 only, as in MetalLB.",
    ),
    no(
        "object-left-out",
        "{object} has an error ({codes}) and is left out",
        "No valid version of the object was seen.",
        "correct it; `clarion validate` shows what is wrong",
    ),
    no(
        "object-in-doubt",
        "{object} has an error ({codes}): a program that saw a valid version keeps that in force, "
        "one that was started since does without",
        "The API holds only the version with the error; what running programs saw before is not "
        "in it. Their /debug/snapshot tells.",
        "correct it; `clarion validate` shows what is wrong",
    ),
    no(
        "object-kept",
        "{object} has an error ({codes}): its last valid version is in force as long as the "
        "program runs",
        "The program saw a valid version of the object before.",
        "correct it before the program is started anew",
    ),
    no(
        "not-found",
        "no {what} is named {name}{hint}",
        "What was asked about is not among the objects.",
        "correct the name",
    ),
)

CHANGES = (
    note("change-new", "{what} {name} is new", "Only the plan after the change has it."),
    note(
        "change-gone",
        "{what} {name} is not there any more",
        "Only the plan before the change has it.",
    ),
    note("change-before", "until now: {text}", "A reason that held before the change."),
    note(
        "change-service",
        "service {service} has {after}, not {before}",
        "The service was given other addresses.",
    ),
    note(
        "change-advertisement",
        "advertisement {advertisement} differs in {fields}",
        "The advertisement was changed.",
    ),
    note(
        "change-cover",
        "advertisement {advertisement} does not cover service {service} on {node}",
        "The labels of the service or of the node were changed.",
    ),
    note(
        "change-sources",
        "it is made by {after}, not by {before}",
        "Other advertisements make the route.",
    ),
    note(
        "change-peer",
        "{field} is {after}, not {before}: {effect}",
        "A field of the BGPPeer was changed.",
    ),
)

PROGRAMS = (
    no(
        "controller-absent",
        "no controller runs: the last one gave its lease up",
        "The controller's Lease has no holder.",
        "start a controller: nobody gives addresses",
    ),
    no(
        "controller-silent",
        "no controller has renewed its lease for {seconds} s; the last one was {holder}",
        "The controller died, hangs, or cannot reach the API.",
        "look at the controller's log, or start one: nobody gives addresses",
    ),
    no(
        "speaker-silent",
        "its speaker has not renewed its lease for {seconds} s",
        "The speaker died, hangs, or cannot reach the API.",
        "look at the speaker's log there, or start one",
    ),
    no(
        "speakers-silent",
        "no speaker has renewed its lease {seconds}: nobody announces anything ({count} known)",
        "All speakers died, hang, or cannot reach the API.",
        "look at the speakers' logs, or start them",
    ),
    yes("session-up", "{peer}: up on {nodes}", "The speakers there report the session so."),
    no(
        "session-down",
        "{peer}: {state} on {nodes}, so nothing of this is heard there",
        "The speakers there report that the session is not Established.",
        "look at the speaker's log there and at the router; compare ASNs and password",
    ),
    yes(
        "answer-reported",
        "{node} reports that it answers",
        "The node's ServiceL2Status says so.",
    ),
    no(
        "answer-missing",
        "{node} does not report that it answers",
        "There is no ServiceL2Status of the node that is to answer.",
        "look at the speaker's log there",
    ),
    no(
        "answer-elsewhere",
        "{node} reports that it answers, and is not to",
        "The node has not seen yet what was decided, or its settings are others.",
        "look at the speaker's log there; compare the flags of the speakers",
    ),
    yes(
        "route-reported",
        "reported by {nodes}: announced to {peers}",
        "The nodes' ServiceBGPStatus objects say so.",
    ),
    no(
        "route-missing",
        "not reported by {nodes}: announced to anybody",
        "There is no ServiceBGPStatus of nodes that are to announce.",
        "look at the speaker's log there",
    ),
    no(
        "route-elsewhere",
        "reported by {nodes}, though it is not to be: announced to {peers}",
        "The nodes have not seen yet what was decided, or their settings are others.",
        "look at the speaker's log there; compare the flags of the speakers",
    ),
)

SESSIONS = (
    note(
        "session-begins",
        "{state}: no attempt has failed yet",
        "The session was configured, or the speaker started, a moment ago.",
    ),
    no(
        "session-unknown",
        "how it stands is not known: {error}",
        "FRR, which has the session, does not answer the speaker.",
        "see whether FRR runs beside the speaker",
    ),
    no(
        "session-port-closed",
        "nothing listens there: {error}",
        "The router answers that the port is closed: BGP does not run there, or not for this node.",
        "configure this node as a neighbor on the router, or correct peerPort and peerAddress",
    ),
    no(
        "session-no-route",
        "there is no way to it: {error}",
        "The node has no route to the address, or the link is down.",
        "check cabling, addresses and routes of the node; set ebgpMultiHop for a router that is "
        "further away",
    ),
    no(
        "session-unheard",
        "nobody is known at the other end of its interface: {error}",
        "An unnumbered peer is found by its Router Advertisements, and none was heard.",
        "let the router send them: FRR does so on an interface with an unnumbered neighbor, others "
        "need a word; /debug/snapshot of the speaker counts what it sent, heard and refused",
    ),
    no(
        "session-no-interface",
        "its interface cannot be used: {error}",
        "The interface is missing or down on this node, or has no IPv6 link-local address.",
        "plug it in and set it up; see that IPv6 is not switched off for it",
    ),
    no(
        "session-no-answer",
        "it does not answer: {error}",
        "Packets are dropped without a word: by a filter, by a TCP MD5 password that is wrong or "
        "only on one side, by a TTL that is too small, or by a router that is down.",
        "compare the passwords of both sides; check filters for the port of BGP; set ebgpMultiHop "
        "for a router further away, or compare ttl-security",
    ),
    no(
        "session-wrong-asn",
        "the AS numbers do not agree: {error}",
        "One side has another AS number than the other expects (Bad Peer AS).",
        "compare myASN, localASN and peerASN with the router's configuration",
    ),
    no(
        "session-same-id",
        "the BGP identifiers clash: {error}",
        "Two routers of one AS have the same identifier (RFC 6286).",
        "give one of them another one; ours is routerID of the BGPPeer",
    ),
    no(
        "session-hold-refused",
        "the router does not take our hold time: {error}",
        "The router asks for a longer hold time than is offered (Unacceptable Hold Time).",
        "raise holdTime of the BGPPeer, or lower the router's minimum",
    ),
    no(
        "session-peer-silent",
        "it fell silent: {error}",
        "Nothing was heard in time: the router hangs, or packets are lost one way.",
        "look at the router and at the path to it; packets of full size may be lost (MTU)",
    ),
    no(
        "session-path-lost",
        "BFD found the path dead: {error}",
        "No BFD packets arrived for the detection time, or the router said so.",
        "look at the path to the router; compare the BFDProfile with the router's settings",
    ),
    no(
        "session-too-many-prefixes",
        "a limit of prefixes was reached: {error}",
        "One side announces more prefixes than the other takes.",
        "raise the limit (annotation max-prefixes, or the router's), or announce fewer",
    ),
    no(
        "session-shut",
        "it was switched off: {error}",
        "An operator shut the session down, or reset it.",
        "ask who operates the router",
    ),
    no(
        "session-not-configured",
        "the router does not want it: {error}",
        "The router has no such neighbor, or turned it away.",
        "configure this node as a neighbor on the router",
    ),
    no(
        "session-cut",
        "the connection was cut: {error}",
        "The router closed the connection without a NOTIFICATION: often it knows no such neighbor.",
        "configure this node's address as a neighbor on the router; see the router's log",
    ),
    no(
        "session-failed",
        "{error}",
        "The session failed for a reason that is told in these words.",
        "look at the speaker's log there and at the router's",
    ),
)
