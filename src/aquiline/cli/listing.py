"""Which commands there are."""

from __future__ import annotations

#: Command to the module it is in, in the order of the help, by group.
MODULES: dict[str, dict[str, str]] = {
    "Change this host": {
        "plan": "plan",
        "apply": "apply",
        "confirm": "confirm",
        "undo": "undo",
        "redo": "redo",
        "recover": "recover",
        "freeze": "freeze",
        "thaw": "freeze",
    },
    "Ask what was done": {
        "status": "status",
        "log": "log",
        "show": "show",
        "script": "script",
        "blame": "blame",
        "verify": "verify",
    },
    "Look after the journal": {
        "amend": "amend",
        "fsck": "keep",
        "gc": "keep",
    },
    "Change a fleet": {
        "deploy": "deploy",
        "undeploy": "deploy",
        "close": "deploy",
        "approve": "deploy",
        "changes": "changes",
        "report": "changes",
        "watch": "changes",
        "domain": "members",
        "sandbox": "members",
        "host": "members",
        "person": "members",
    },
    "Belong to a fleet": {
        "agent": "agent",
        "enrol": "agent",
    },
    "Set up": {
        "demo": "demo",
        "broker": "broker",
        "completion": "completion",
    },
}
