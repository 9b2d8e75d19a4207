// The sidecar in front of an application of this machine.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const PATIENCE = 20_000

/** Starts it; where it listens. */
export async function startSidecar (program, folder, appPort) {
  const [httpPort, adminPort] = await freePorts(2)
  const settings = { version: 1, httpPort, adminPort, appPort, http: { memory: 64 << 20, maxObject: 1 << 20 } }
  const file = join(folder, 'settings.json')
  writeFileSync(file, JSON.stringify(settings))
  const child = spawn(program, ['--settings', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let told = ''
  child.stderr.on('data', text => { told += text })
  const ended = once(child, 'exit')
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill('SIGTERM')
    // Connections that the client keeps open are waited for.
    const kill = setTimeout(() => child.kill('SIGKILL'), 2000)
    await ended
    clearTimeout(kill)
  }
  process.on('exit', () => child.kill('SIGKILL'))
  for (const end = Date.now() + PATIENCE; ;) {
    if (child.exitCode !== null || Date.now() > end) {
      await stop()
      throw new Error(`the sidecar is not ready: ${told}`)
    }
    if (await isReady(adminPort)) return { url: `http://127.0.0.1:${httpPort}`, stop }
    await sleep(20)
  }
}

async function isReady (port) {
  try {
    return (await fetch(`http://127.0.0.1:${port}/readyz`)).ok
  } catch {
    return false
  }
}

async function freePorts (count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'))
  await Promise.all(servers.map(server => once(server, 'listening')))
  const ports = servers.map(server => server.address().port)
  await Promise.all(servers.map(server => once(server.close(), 'close')))
  return ports
}
