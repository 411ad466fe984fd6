"""`python -m idc_indexer`."""

from idc_indexer.cli import main

main()
