// The sidecar in front of an application of this machine.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const PATIENCE = 20_000

/** Both levels; or the second alone, as nothing has room in a memory of this size. */
const SIZES = { both: { memory: 64 << 20, maxObject: 1 << 20 }, second: { memory: 300, maxObject: 300 } }

/** Starts it with a Redis of its own; where it listens, and how much it has answered from which level. */
export async function startSidecar (program, folder, appPort, levels) {
  const [httpPort, adminPort, redisPort] = await freePorts(3)
  // Before the sidecar, which else begins without it, and forgets what it has when it comes.
  const stopRedis = await startRedis(redisPort)
  const urlFile = join(folder, 'redis-url')
  writeFileSync(urlFile, `redis://127.0.0.1:${redisPort}/0\n`)
  const redis = { urlFile, keyPrefix: 'conformance:', channel: 'conformance' }
  const settings = { version: 1, httpPort, adminPort, appPort, redis, http: SIZES[levels] }
  const file = join(folder, 'settings.json')
  writeFileSync(file, JSON.stringify(settings))
  const child = spawn(program, ['--settings', file], { stdio: ['ignore', 'ignore', 'pipe'] })
  let told = ''
  child.stderr.on('data', text => { told += text })
  const ended = once(child, 'exit')
  const stop = async () => {
    stopRedis()
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
    if (await isReady(adminPort)) {
      return { url: `http://127.0.0.1:${httpPort}`, stop, figures: () => figures(adminPort) }
    }
    await sleep(20)
  }
}

/** Starts a Redis that keeps nothing; how to end it. */
async function startRedis (port) {
  const server = spawn('redis-server', ['--bind', '127.0.0.1', '--port', `${port}`, '--save', ''], { stdio: 'ignore' })
  const stop = () => server.kill('SIGKILL')
  process.on('exit', stop)
  for (const end = Date.now() + PATIENCE; !await answers(port);) {
    if (Date.now() > end) throw new Error('redis-server does not answer')
    await sleep(20)
  }
  return stop
}

async function answers (port) {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Hits by level, and what was stored in Redis. */
async function figures (port) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()
  const count = (name, ...labels) => text.split('\n')
    .filter(line => line.startsWith(`cachedservice_sidecar_${name}{`) && labels.every(label => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.split(' ').pop()), 0)
  const from = level => ['hit', 'stale'].reduce((sum, result) => sum + count('requests_total', `result="${result}"`, `detail="${level}"`), 0)
  return { memory: from('L1'), redis: from('L2'), stored: count('redis_responses_total', 'result="stored"') }
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
