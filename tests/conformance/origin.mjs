// The suite's own origin server, on a free port of the loopback address: it would listen on all.
import http from 'node:http'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Starts it, on a port that is free unless one is given; its port. */
export async function startOrigin (port = 0) {
  const { createServer } = http
  let server
  http.createServer = handler => {
    server = createServer(handler)
    const { listen } = server
    server.listen = () => listen.call(server, port, '127.0.0.1')
    return server
  }
  // It writes its process id to a file, which nobody reads here.
  process.env.npm_config_pidfile = join(process.env.WORK ?? tmpdir(), 'origin.pid')
  process.env.npm_config_protocol = 'http'
  process.env.npm_config_port = '80'
  await quietly(() => import('http-cache-tests/server/server.mjs'))
  http.createServer = createServer
  if (!server.listening) await once(server, 'listening')
  return { port: server.address().port, stop: () => { server.close(); server.closeAllConnections() } }
}

/** Without what the suite tells of each request that is none of its tests. */
async function quietly (action) {
  const { log } = console
  console.log = text => { if (!/^(Listening|SERVER WARNING)/.test(text)) log(text) }
  return action()
}
