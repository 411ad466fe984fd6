"""GoogleSQL as Google defines it: the reference analyzer and evaluator, used by tests as the oracle.

The PyPI package ``zetasql`` carries Google's C++ implementation compiled to WebAssembly. Only its module and
its protocol buffers are used here; this file is the client.

What an answer from it is worth:

* ``analyze`` says whether a query is valid GoogleSQL over tables of the given types, and what its columns are
  called and typed. BigQuery accepts a little less (``_NOT_IN_BIGQUERY`` names the surplus most likely to slip
  in), has quotas and costs, and calls a table without an alias by the last part of its name; here its name is
  the whole dotted one.
* ``evaluate`` says which rows the language defines for a query. Where the language leaves a choice (row order
  without ORDER BY, ANY_VALUE, the order in which floats are summed, whether an error that need not be met is
  raised) the answer is one of several right ones. The time zone is UTC unless named.
* Tables and results hold arrays as BigQuery holds them: never NULL, at any depth (a NULL array given is read
  as empty, a NULL array computed is returned empty), and no array of a result has a NULL element.
"""

import ctypes
import functools
import os
import re
import tempfile
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import pyarrow as pa
import wasmtime
from zetasql.wasi import get_wasm_path
from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service
from zetasql.wasi._pb2.zetasql.proto import options_pb2, simple_catalog_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as language_pb2
from zetasql.wasi._pb2.zetasql.public import simple_table_pb2, type_pb2, value_pb2


class GoogleSQLError(Exception):
    """The query is invalid (the message says where: line and column) or fails on these rows."""


class GoogleSQL:
    """The evaluator. Loading one takes 0.1 s and 0.2 GB, so share ``GoogleSQL.get()``: threads may."""

    def __init__(self, cache: Path | None = None) -> None:
        self._module = _Module(cache or _default_cache())
        self._registered: dict[str, int] = {}
        self._options = self._module.call(
            "GetAnalyzerOptions", service.AnalyzerOptionsRequest(), options_pb2.AnalyzerOptionsProto
        )
        self._options.ClearField("allowed_hints_and_options")  # of types known only inside the module
        self._options.default_timezone = "UTC"
        self._options.error_message_mode = language_pb2.ERROR_MESSAGE_MULTI_LINE_WITH_CARET
        language = self._options.language_options
        language.product_mode = language_pb2.PRODUCT_EXTERNAL
        request = service.LanguageOptionsRequest(maximum_features=True)
        released = self._module.call("GetLanguageOptions", request, options_pb2.LanguageOptionsProto)
        language.enabled_language_features[:] = set(released.enabled_language_features) - _NOT_IN_BIGQUERY

    @classmethod
    @functools.cache
    def get(cls) -> "GoogleSQL":
        """The instance of this process."""
        return cls()

    def analyze(self, sql: str, tables: Mapping[str, pa.Schema]) -> list[tuple[str, str]]:
        """Name and type (as GoogleSQL spells it) of every column of the query's result."""
        request = service.AnalyzeRequest(sql_statement=sql, options=self._options, simple_catalog=self._catalog(tables))
        response = self._module.call("Analyze", request, service.AnalyzeResponse)
        columns = response.resolved_statement.resolved_query_stmt_node.output_column_list
        return [(column.name, _spelled(column.column.type)) for column in columns]

    def accepts(self, sql: str, tables: Mapping[str, pa.Schema]) -> bool:
        """Whether a query is valid. Sends the tables once, so that a query takes a third of the time of `analyze`."""
        names = str(sorted((name, str(schema)) for name, schema in tables.items()))
        if names not in self._registered:
            catalog = service.RegisterCatalogRequest(simple_catalog=self._catalog(tables))
            answer = self._module.call("RegisterCatalog", catalog, service.RegisterResponse)
            self._registered[names] = answer.registered_id
        request = service.AnalyzeRequest(
            sql_statement=sql, options=self._options, registered_catalog_id=self._registered[names]
        )
        try:
            self._module.call("Analyze", request, service.AnalyzeResponse)
        except GoogleSQLError:
            return False
        return True

    def evaluate(self, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """The query's result over these rows. A cell costs 10 µs or more: give only what the query reads."""
        request = service.EvaluateQueryRequest(
            sql=sql,
            options=self._options,
            simple_catalog=self._catalog({name: table.schema for name, table in tables.items()}),
            table_content={name: _content(table) for name, table in tables.items()},
        )
        response = self._module.call("EvaluateQuery", request, service.EvaluateQueryResponse)
        schema = pa.schema([(column.name, _arrow(column.type)) for column in response.prepared.columns])
        rows = response.content.table_data.row
        columns = []
        for index, field in enumerate(schema):
            decode = _decoder(field.type)
            columns.append(pa.array([decode(row.cell[index]) for row in rows], field.type))
        return pa.Table.from_arrays(columns, schema=schema)

    def _catalog(self, schemas: Mapping[str, pa.Schema]) -> Any:
        """What a query may name. Sent with every query: that costs 15 ms and leaves no state behind."""
        language = self._options.language_options
        functions = options_pb2.ZetaSQLBuiltinFunctionOptionsProto(language_options=language)
        tables = [_table(name, schema) for name, schema in schemas.items()]
        return simple_catalog_pb2.SimpleCatalogProto(table=tables, builtin_function_options=functions)


# Every released feature is switched on, except what BigQuery would read differently or refuse.
_NOT_IN_BIGQUERY = {
    language_pb2.FEATURE_TIMESTAMP_NANOS,  # BigQuery's times have microseconds, and their text shows it
    language_pb2.FEATURE_TIMESTAMP_PICOS,
    language_pb2.FEATURE_AGGREGATE_FILTERING,
    language_pb2.FEATURE_ARRAY_AGGREGATION_FUNCTIONS,
    language_pb2.FEATURE_ARRAY_FIND_FUNCTIONS,
    language_pb2.FEATURE_ARRAY_ZIP,
    language_pb2.FEATURE_FIRST_AND_LAST_N,
    language_pb2.FEATURE_INLINE_LAMBDA_ARGUMENT,
    language_pb2.FEATURE_LATERAL_JOIN,
    language_pb2.FEATURE_LITERAL_CONCATENATION,
    language_pb2.FEATURE_MULTILEVEL_AGGREGATION,
    language_pb2.FEATURE_MULTIWAY_UNNEST,
}


# --- types and values: pyarrow on our side, protocol buffers on the other -----------------------------------

_Value = value_pb2.ValueProto
_WIDE = Context(prec=40)  # NUMERIC has 38 digits, Python's default context 28


class _Scalar(NamedTuple):
    arrow: pa.DataType
    kind: int
    field: str  # of ValueProto
    encode: Callable[[Any], Any] = lambda value: value
    decode: Callable[[Any], Any] = lambda value: value


def _pack_time(value: time | datetime) -> int:
    return (value.hour << 6 | value.minute) << 6 | value.second


def _unpack_time(bits: int, nanos: int) -> time:
    return time(bits >> 12 & 31, bits >> 6 & 63, bits & 63, nanos // 1000)


def _pack_datetime(value: datetime) -> Any:
    bits = ((value.year << 4 | value.month) << 5 | value.day) << 17 | _pack_time(value)
    return _Value.Datetime(bit_field_datetime_seconds=bits, nanos=value.microsecond * 1000)


def _unpack_datetime(value: Any) -> datetime:
    bits = value.bit_field_datetime_seconds
    day = date(bits >> 26, bits >> 22 & 15, bits >> 17 & 31)
    return datetime.combine(day, _unpack_time(bits, value.nanos))


_SCALARS = (
    _Scalar(pa.string(), type_pb2.TYPE_STRING, "string_value"),
    _Scalar(pa.binary(), type_pb2.TYPE_BYTES, "bytes_value"),
    _Scalar(pa.bool_(), type_pb2.TYPE_BOOL, "bool_value"),
    _Scalar(pa.int64(), type_pb2.TYPE_INT64, "int64_value"),
    _Scalar(pa.float64(), type_pb2.TYPE_DOUBLE, "double_value"),
    _Scalar(
        pa.decimal128(38, 9),
        type_pb2.TYPE_NUMERIC,
        "numeric_value",
        lambda value: int(_WIDE.scaleb(value, 9)).to_bytes(16, "little", signed=True),
        lambda data: _WIDE.scaleb(Decimal(int.from_bytes(data, "little", signed=True)), -9),
    ),
    _Scalar(
        pa.date32(),
        type_pb2.TYPE_DATE,
        "date_value",
        lambda value: value.toordinal() - date(1970, 1, 1).toordinal(),
        lambda days: date.fromordinal(days + date(1970, 1, 1).toordinal()),
    ),
    _Scalar(
        pa.time64("us"),
        type_pb2.TYPE_TIME,
        "time_value",
        lambda value: _pack_time(value) << 30 | value.microsecond * 1000,
        lambda bits: _unpack_time(bits >> 30, bits & (1 << 30) - 1),
    ),
    _Scalar(pa.timestamp("us"), type_pb2.TYPE_DATETIME, "datetime_value", _pack_datetime, _unpack_datetime),
    _Scalar(
        pa.timestamp("us", tz="UTC"),
        type_pb2.TYPE_TIMESTAMP,
        "timestamp_value",
        decode=lambda value: value.ToDatetime(UTC),
    ),
)
_BY_ARROW = {scalar.arrow: scalar for scalar in _SCALARS}
_BY_KIND = {scalar.kind: scalar for scalar in _SCALARS}


def _spelled(type_: Any) -> str:
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        return f"ARRAY<{_spelled(type_.array_type.element_type)}>"
    if type_.type_kind == type_pb2.TYPE_STRUCT:
        fields = [(field.field_name, _spelled(field.field_type)) for field in type_.struct_type.field]
        return f"STRUCT<{', '.join(f'{name} {spelled}'.strip() for name, spelled in fields)}>"
    if type_.type_kind == type_pb2.TYPE_DOUBLE:
        return "FLOAT64"
    return str(type_pb2.TypeKind.Name(type_.type_kind)).removeprefix("TYPE_")


def _arrow(type_: Any) -> pa.DataType:
    if type_.type_kind == type_pb2.TYPE_ARRAY:
        return pa.list_(_arrow(type_.array_type.element_type))
    if type_.type_kind == type_pb2.TYPE_STRUCT:
        return pa.struct([(field.field_name, _arrow(field.field_type)) for field in type_.struct_type.field])
    if type_.type_kind not in _BY_KIND:
        raise TypeError(f"a result of type {_spelled(type_)} cannot be read")
    return _BY_KIND[type_.type_kind].arrow


def _google(type_: pa.DataType) -> Any:
    if pa.types.is_list(type_):
        array = type_pb2.ArrayTypeProto(element_type=_google(type_.value_type))
        return type_pb2.TypeProto(type_kind=type_pb2.TYPE_ARRAY, array_type=array)
    if pa.types.is_struct(type_):
        fields = [{"field_name": field.name, "field_type": _google(field.type)} for field in type_]
        struct = type_pb2.StructTypeProto(field=fields)
        return type_pb2.TypeProto(type_kind=type_pb2.TYPE_STRUCT, struct_type=struct)
    if type_ not in _BY_ARROW:
        raise TypeError(f"no GoogleSQL type for a column of Arrow type {type_}")
    return type_pb2.TypeProto(type_kind=_BY_ARROW[type_].kind)


def _encoder(type_: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(type_):
        element = _encoder(type_.value_type)
        return lambda value: _Value(array_value=_Value.Array(element=[element(item) for item in value or ()]))
    if pa.types.is_struct(type_):
        fields = [(field.name, _encoder(field.type)) for field in type_]

        def struct(value: dict[str, Any] | None) -> Any:
            if value is None:
                return _Value()
            return _Value(struct_value=_Value.Struct(field=[encode(value[name]) for name, encode in fields]))

        return struct
    scalar = _BY_ARROW[type_]
    return lambda value: _Value() if value is None else _Value(**{scalar.field: scalar.encode(value)})


def _decoder(type_: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(type_):
        element = _decoder(type_.value_type)

        def array(value: Any) -> list[Any]:
            items = [element(item) for item in value.array_value.element]
            if None in items:
                raise GoogleSQLError("Array cannot have a null element: BigQuery cannot return one")
            return items

        return array
    if pa.types.is_struct(type_):
        fields = [_decoder(field.type) for field in type_]

        # A tuple, for the fields of a GoogleSQL struct need not have names of their own.
        def struct(value: Any) -> tuple[Any, ...] | None:
            if not value.HasField("struct_value"):
                return None
            return tuple(decode(item) for decode, item in zip(fields, value.struct_value.field, strict=True))

        return struct
    scalar = _BY_ARROW[type_]
    return lambda value: scalar.decode(getattr(value, scalar.field)) if value.HasField(scalar.field) else None


def _table(name: str, schema: pa.Schema) -> Any:
    columns = [{"name": field.name, "type": _google(field.type)} for field in schema]
    return simple_table_pb2.SimpleTableProto(name=name, column=columns)


def _content(table: pa.Table) -> Any:
    columns = [map(_encoder(column.type), column.to_pylist()) for column in table.columns]
    rows = [service.TableData.Row(cell=cells) for cells in zip(*columns, strict=True)]
    return service.TableContent(table_data=service.TableData(row=rows))


# --- the WebAssembly module ---------------------------------------------------------------------------------


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "idc-indexer"


class _Module:
    """Calls into the module: a request goes in, a response or the text of an error comes out."""

    def __init__(self, cache: Path) -> None:
        config = wasmtime.Config()
        config.shared_memory = True  # the module asks for one: it was built with threads
        engine = wasmtime.Engine(config)
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        wasi = wasmtime.WasiConfig()
        wasi.inherit_stderr()  # where it says why, should it ever crash
        wasi.preopen_dir(str(files("tzdata") / "zoneinfo"), "/usr/share/zoneinfo")
        self._store = wasmtime.Store(engine)
        self._store.set_wasi(wasi)
        self._exports: Any = linker.instantiate(self._store, compiled(engine, cache)).exports(self._store)
        self._lock = threading.Lock()
        self._run("_initialize")

    def call(self, method: str, request: Any, response: Any) -> Any:
        data = request.SerializeToString()
        with self._lock:  # a store serves one thread at a time
            sent = self._run("wasm_malloc", len(data) + 4)
            size = sent + len(data)  # the last four bytes: where the module writes the size of its answer
            ctypes.memmove(self._memory(sent), data, len(data))
            answer = self._run(f"ZetaSqlLocalService_{method}", sent, len(data), size)
            if answer:
                data = self._read(answer, int.from_bytes(self._read(size, 4), "little"))
                self._run("wasm_free", answer)
            self._run("wasm_free", sent)
            if not answer:
                raise GoogleSQLError(self._last_error())
        return response.FromString(data)

    def _last_error(self) -> str:
        text = self._read(self._run("wasm_get_last_error"), self._run("wasm_get_last_error_size")).decode()
        return re.sub(r"^Code: \d+, Message: ", "", text)

    def _run(self, function: str, *arguments: int) -> int:
        return int(self._exports[function](self._store, *arguments) or 0) & 0xFFFFFFFF  # addresses have no sign

    def _memory(self, address: int) -> int:
        """The address in this process of an address in the module."""
        return ctypes.addressof(self._exports["memory"].data_ptr().contents) + address

    def _read(self, address: int, size: int) -> bytes:
        return ctypes.string_at(self._memory(address), size)


def compiled(engine: wasmtime.Engine, cache: Path) -> wasmtime.Module:
    """The module as machine code. Compiling takes 20 s of a processor and 1 GB, loading the result next to nothing."""
    source = get_wasm_path()
    file = cache / f"googlesql-{source.stat().st_size}-wasmtime-{version('wasmtime')}.bin"
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{file}.lock"):  # whoever else needs it waits
        if file.exists():
            try:
                return wasmtime.Module.deserialize_file(engine, str(file))
            except wasmtime.WasmtimeError:
                pass  # made for another processor, or damaged: made anew
        module = wasmtime.Module.from_file(engine, str(source))
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as part:
            part.write(module.serialize())
        Path(part.name).replace(file)  # whole or not at all: this process may be killed
    return module
