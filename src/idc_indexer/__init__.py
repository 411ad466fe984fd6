"""idc-indexer: builds and publishes the indices of NCI Imaging Data Commons."""

__version__ = "0.1.0"
