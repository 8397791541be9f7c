"""Profiles from the broker, taken for what their digest says and for nothing else."""

from __future__ import annotations

from aquiline.agent.daemon.link import Link
from aquiline.agent.session import Session
from aquiline.errors import ProfileError
from aquiline.profile import Profile
from aquiline.profile.loading import parse_json
from aquiline.protocol.messages import LARGEST_MESSAGE


def fetched(link: Link, digest: str, name: str) -> Profile:
    """Return the profile of that digest from the broker; `name` is the host's where the profile does not say it.

    Raises:
        BrokerAway, BrokerRefused: there is none to be had.
        ProfileError: what came is another one, or none.
    """
    return parsed(link.profile(digest), digest, name)


def parsed(data: bytes, digest: str, name: str) -> Profile:
    """Return the profile that `data` holds; raises `ProfileError` where it has another digest."""
    if len(data) > LARGEST_MESSAGE:
        raise ProfileError(f"a profile of {len(data)} bytes; none is larger than {LARGEST_MESSAGE}", path="")
    try:
        profile = Profile(parse_json(data.decode("utf-8")), name)
    except UnicodeDecodeError as error:
        raise ProfileError(f"the profile {digest} is no UTF-8: {error.reason}", path="") from None
    if profile.digest != digest:
        raise ProfileError(f"the broker was asked for profile {digest} and sent {profile.digest}", path="")
    return profile


def at_hand(session: Session, link: Link, digest: str, name: str) -> Profile:
    """Return a profile from the archive of those this host has had, else from the broker."""
    if digest in session.archive.list():
        try:
            return session.archive.get(digest, name)
        except ProfileError:
            pass  # damaged: the broker has it too
    return fetched(link, digest, name)
