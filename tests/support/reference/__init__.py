"""The parts of ``reference_export``: source tables of IDC, made from a published package."""
