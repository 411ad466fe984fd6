// DuckDB in WebAssembly under node, with the Parquet reader that is part of its module.
//
// Later releases than this one, which is DuckDB 1.0.0, have no Parquet reader inside: they fetch it from the network,
// and tests have none. This one has the reader, but does not register it, so that is done here.
import { createRequire } from 'node:module'
import path from 'node:path'

const require = createRequire(import.meta.url)
const folder = path.dirname(require.resolve('@duckdb/duckdb-wasm/dist/duckdb-node-blocking.cjs'))
const duckdb = require(path.join(folder, 'duckdb-node-blocking.cjs'))

// What reads files in a browser, and what `answer` answers for it: node has no XMLHttpRequest.
export const browserRuntime = () => {
  // Without a window, a library of this bundle takes node for its own surroundings, and finds no Buffer.
  globalThis.window = { JS_SHA256_NO_NODE_JS: true }
  try {
    return require(path.join(folder, 'duckdb-browser-blocking.cjs')).BROWSER_RUNTIME
  } finally {
    delete globalThis.window
  }
}

// Returns a function from SQL to rows, each an object. `remote` has the URLs of files by the names they get.
export const open = async (runtime = duckdb.NODE_RUNTIME, remote = {}) => {
  const instantiate = WebAssembly.instantiate
  let exported
  WebAssembly.instantiate = async (...given) => {
    const made = await instantiate(...given)
    exported = made.instance.exports
    return made
  }
  const module = (kind) => ({ mainModule: path.join(folder, `duckdb-${kind}.wasm`), mainWorker: '' })
  const bundles = { mvp: module('mvp'), eh: module('eh') }
  const database = await duckdb.createDuckDB(bundles, new duckdb.VoidLogger(), runtime)
  await database.instantiate()
  WebAssembly.instantiate = instantiate
  database.open({})
  const connection = database.connect()
  // The second word of a connection is the address of its context, in which the third is the pointer to the database.
  const context = database.mod.HEAPU32[connection._conn / 4 + 1]
  exported.duckdb_web_parquet_init(context + 8)
  for (const [name, url] of Object.entries(remote)) {
    database.registerFileURL(name, url, duckdb.DuckDBDataProtocol.HTTP, false)
  }
  return (sql) => connection.query(sql).toArray()
}

export const asJson = (rows) =>
  JSON.stringify(rows, (_, value) => (typeof value === 'bigint' ? Number(value) : value))
