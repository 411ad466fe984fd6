// Prints the rows of a Parquet file as JSON, read by DuckDB in WebAssembly. The newest release whose Parquet reader
// is part of the module: later ones fetch it from the network.
import { createRequire } from 'node:module'
import path from 'node:path'

const require = createRequire(import.meta.url)
const entry = require.resolve('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs')
const duckdb = require(entry)
const module = (kind) => ({ mainModule: path.join(path.dirname(entry), `duckdb-${kind}.wasm`), mainWorker: '' })
const bundles = { mvp: module('mvp'), eh: module('eh') }
const database = await duckdb.createDuckDB(bundles, new duckdb.VoidLogger(), duckdb.NODE_RUNTIME)
await database.instantiate()
database.open({})
const rows = database.connect().query(`SELECT * FROM read_parquet('${process.argv[2].replaceAll("'", "''")}')`)
console.log(JSON.stringify(rows.toArray(), (_, value) => (typeof value === 'bigint' ? Number(value) : value)))
