// Runs checks and says of each what came of it; the last line counts them.
import assert from 'node:assert/strict'

/** Milliseconds for one check. */
const LIMIT = 15_000

/** Checks by what they say of a client, each called with what `connect` makes: a function that connects as told. */
export async function report (name, checks, connecting) {
  let passed = 0
  let failed = 0
  for (const protocol of [2, 3]) {
    for (const [sentence, check] of Object.entries(checks)) {
      const opened = []
      const connect = async options => {
        const client = await connecting({ protocol, ...options })
        opened.push(client)
        return client
      }
      let timer
      const late = new Promise((resolve, reject) => { timer = setTimeout(() => reject(new Error('it took too long')), LIMIT) })
      try {
        const client = await connect({})
        await Promise.race([check(client, connect), late])
        passed++
        console.log(`ok      ${name}, RESP${protocol}: ${sentence}`)
      } catch (error) {
        failed++
        console.log(`FAILED  ${name}, RESP${protocol}: ${sentence}: ${error.stack}`)
      }
      clearTimeout(timer)
      for (const client of opened) end(client)
    }
  }
  console.log(`${name}: ${passed} passed, ${failed} failed`)
  process.exit(failed > 0 ? 1 : 0)
}

function end (client) {
  try {
    if (client.destroy) client.destroy()
    else client.disconnect()
  } catch {
    // It has ended already.
  }
}

/** A key of this run. */
const run = process.pid
let keys = 0
export const key = () => `near-cache:${run}:${++keys}`

/** Waits until a value is there that another part of the program makes. */
export async function until (condition) {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5))
}

export const LARGE = 'x'.repeat(8 << 20)
export const COUNT = 1000
export { assert }
