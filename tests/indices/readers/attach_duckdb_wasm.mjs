// Attaches idc.duckdb over HTTP by DuckDB in WebAssembly, and prints the answers to questions as JSON.
// node attach_duckdb_wasm.mjs ADDRESS [SQL...]
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads'
import { asJson, browserRuntime, open } from './duckdb_wasm.mjs'

const [address, ...questions] = process.argv.slice(2)

// DuckDB waits for each answer, as scripts in a worker of a browser may. Here another thread asks, and wakes this one.
const { port1: port, port2: other } = new MessageChannel()
const answered = new Int32Array(new SharedArrayBuffer(4))
const asking = `
  const { port, answered } = require('node:worker_threads').workerData
  port.on('message', async ({ url, method, headers }) => {
    const response = await fetch(url, { method, headers }).catch(() => null)
    const body = response && (await response.arrayBuffer())
    port.postMessage({ status: response?.status ?? 0, headers: [...(response?.headers ?? [])], body })
    Atomics.store(answered, 0, 1)
    Atomics.notify(answered, 0)
  })`
new Worker(asking, { eval: true, workerData: { port: other, answered }, transferList: [other] }).unref()

globalThis.XMLHttpRequest = class {
  request = { headers: {} }
  open(method, url) {
    Object.assign(this.request, { method, url })
  }
  setRequestHeader(name, value) {
    this.request.headers[name] = value
  }
  send() {
    Atomics.store(answered, 0, 0)
    port.postMessage(this.request)
    Atomics.wait(answered, 0, 0)
    const { status, headers, body } = receiveMessageOnPort(port).message
    Object.assign(this, { status, response: body, headers: new Map(headers) })
  }
  getResponseHeader(name) {
    return this.headers.get(name.toLowerCase()) ?? null
  }
}

const query = await open(browserRuntime(), { 'idc.duckdb': `${address}idc.duckdb` })
query("ATTACH 'idc.duckdb' AS idc (READ_ONLY)")
console.log(asJson(questions.map((sql) => query(sql).map((row) => Object.values(row.toJSON())))))
process.exit(0)
