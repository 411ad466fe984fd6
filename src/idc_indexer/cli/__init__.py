"""The command line: options, output, exit codes. A command parses, calls one function of the library, prints.

Exit codes: 0 done, 1 could not, 2 usage, 3 a check ran and found problems, 130 interrupted by Ctrl-C. Results go to
stdout, everything else to stderr.
"""

# --help lists the commands in the order of these modules, which is that of a release.
from idc_indexer.cli import catalog, build, staging, compare, publish  # isort: skip
from idc_indexer.cli.group import main

__all__ = ["build", "catalog", "compare", "main", "publish", "staging"]
