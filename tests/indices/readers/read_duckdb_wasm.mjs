// Prints the rows of a Parquet file as JSON, read by DuckDB in WebAssembly.
import { asJson, open } from './duckdb_wasm.mjs'

const query = await open()
console.log(asJson(query(`SELECT * FROM read_parquet('${process.argv[2].replaceAll("'", "''")}')`)))
