"""The host's side of the fleet: it asks a broker what this host should be, brings that about, and says what happened.

::

    machine      when to poll, work and report: events in, effects out, no I/O
    link         what an agent asks of its broker; `web` does it over HTTPS
    agent        one host's agent: performs the machine's effects one after the other
    moving       the work for a target: one move after the other until the host is there (D17)
    answering    the work for an order: a dry-run or a verification
    standpoint   where the host stands, by its journal
    reporting    what the journal says happened, as the messages that the broker keeps
    memory       what an agent must not forget, in ``STATE/agent``; `outbox`: reports that no journal has

The journal is the truth: what is reported comes from it, whoever did it. Nothing here is needed to take a run back.
"""
