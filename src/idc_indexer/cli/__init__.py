"""The command line: options, output, exit codes. A command parses, calls the library, prints.

Exit codes: 0 done, 1 could not, 2 usage, 3 a check ran and found problems. Results go to stdout,
everything else to stderr.
"""

from idc_indexer.cli import build as building
from idc_indexer.cli import catalog as indices
from idc_indexer.cli import compare as comparing
from idc_indexer.cli import publish as publishing
from idc_indexer.cli import staging
from idc_indexer.cli.options import main

__all__ = ["building", "comparing", "indices", "main", "publishing", "staging"]
