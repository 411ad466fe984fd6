"""Columns, tables and source tables, as BigQuery describes them and as Arrow holds them."""
