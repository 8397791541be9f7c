"""What agent and broker say to each other, as values: messages, change-sets and the version both must know (D24).

Neither side is imported here. Everything that arrives from the other machine is decoded by `decode_message`, which
refuses what does not fit, what is too deep and what is too large; digests are recomputed by whoever receives.
"""
