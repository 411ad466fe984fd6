"""The public functions: one for each command, for scripts and notebooks too.

Import them from `idc_indexer`, not from here: these names stay, all other modules are private and may change. A
function takes keyword arguments, returns a frozen dataclass, and never prints; it raises `IndexerError` with a message
for the user. This room combines the rooms below it, and decides nothing that they can decide.
"""
