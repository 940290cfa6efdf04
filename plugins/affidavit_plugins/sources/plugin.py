"""Registers the sources. Nothing heavy is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affidavit.hookspecs import hookimpl

if TYPE_CHECKING:
    from affidavit.plugins import RegistryWriter

HERE = "affidavit_plugins.sources"


@hookimpl
def affidavit_register(registry: RegistryWriter) -> None:
    """Add the sources."""
    registry.add("source", "arrow", f"{HERE}.columnar:ArrowSource")
    registry.add("source", "csv", f"{HERE}.delimited:CsvSource")
    registry.add("source", "jsonlines", f"{HERE}.json_lines:JsonLinesSource")
    registry.add("source", "memory", f"{HERE}.memory:MemorySource")
    registry.add("source", "parquet", f"{HERE}.columnar:ParquetSource")
    registry.add("source", "sql", f"{HERE}.sql:SqlSource")
