// What node-redis does at the URL that is given.
import { createClient, ErrorReply, WatchError } from 'redis'
import { assert, COUNT, key, LARGE, report, until } from './report.mjs'

const [url] = process.argv.slice(2)

async function connecting ({ protocol, ...options }) {
  const client = createClient({ url, RESP: protocol, disableOfflineQueue: true, socket: { reconnectStrategy: false }, ...options })
  client.on('error', () => {})
  return client.connect()
}

await report('node-redis', {
  'speaks the protocol it asked for': async client => {
    assert.equal(await client.ping(), 'PONG')
    const found = await client.sendCommand(['HELLO'])
    const proto = Array.isArray(found) ? found[found.indexOf('proto') + 1] : found.proto
    assert.equal(proto, client.options.RESP)
  },
  'reads its own write on another connection': async (client, connect) => {
    const [other, name] = [await connect(), key()]
    for (let count = 0; count < 100; count++) {
      await client.set(name, count)
      assert.equal(await other.get(name), String(count))
    }
    await client.del(name)
    assert.equal(await other.get(name), null)
  },
  'gets hashes, sets and sorted sets in its own types': async client => {
    const [hash, set, sorted] = [key(), key(), key()]
    await client.hSet(hash, { one: '1', two: '2' })
    await client.sAdd(set, ['a', 'b'])
    await client.zAdd(sorted, [{ score: 1.5, value: 'a' }, { score: 2, value: 'b' }])
    for (let pass = 0; pass < 2; pass++) {
      assert.deepEqual({ ...await client.hGetAll(hash) }, { one: '1', two: '2' })
      assert.deepEqual([...await client.sMembers(set)].sort(), ['a', 'b'])
      assert.deepEqual(await client.zRangeWithScores(sorted, 0, -1), [{ value: 'a', score: 1.5 }, { value: 'b', score: 2 }])
      assert.equal(await client.zScore(sorted, 'a'), 1.5)
    }
  },
  'keeps the order in a pipeline': async client => {
    const name = key()
    const replies = await Promise.all(Array.from({ length: COUNT }, (_, n) => [client.set(name, n), client.get(name)]).flat())
    assert.deepEqual(replies.filter((_, n) => n % 2), Array.from({ length: COUNT }, (_, n) => String(n)))
  },
  'runs transactions': async client => {
    const name = key()
    assert.deepEqual(await client.multi().set(name, '1').incr(name).get(name).exec(), ['OK', 2, '2'])
  },
  'gives up a transaction whose key was changed under WATCH': async (client, connect) => {
    const [other, name] = [await connect(), key()]
    await client.set(name, '1')
    await client.watch(name)
    assert.equal(await client.get(name), '1')
    await other.set(name, '2')
    await assert.rejects(client.multi().set(name, '3').exec(), WatchError)
    assert.equal(await client.get(name), '2')
  },
  'hears what is published, by channel and by pattern': async (client, connect) => {
    const [subscriber, channel, heard] = [await connect(), key(), []]
    await subscriber.subscribe(channel, message => heard.push(message))
    await subscriber.pSubscribe(`${channel}*`, message => heard.push(message))
    assert.equal(await client.publish(channel, 'hello'), 2)
    await until(() => heard.length === 2)
    assert.deepEqual(heard, ['hello', 'hello'])
    await subscriber.unsubscribe(channel)
    await subscriber.pUnsubscribe(`${channel}*`)
    assert.equal(String(await subscriber.ping()), 'PONG')
  },
  'waits in a blocking pop for what is pushed, and no longer than it said': async (client, connect) => {
    const [other, name] = [await connect(), key()]
    const popped = client.blPop(name, 10)
    await other.rPush(name, 'pushed')
    assert.equal((await popped).element, 'pushed')
    assert.equal(await client.blPop(name, 0.1), null)
  },
  'runs scripts by text and by hash': async client => {
    const name = key()
    const script = `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${name}`
    const { createHash } = await import('node:crypto')
    const hash = createHash('sha1').update(script).digest('hex')
    await assert.rejects(client.evalSha(hash, { keys: [name], arguments: ['2'] }), /NOSCRIPT/)
    assert.equal(await client.eval(script, { keys: [name], arguments: ['2'] }), 2)
    assert.equal(await client.get(name), '2')
    assert.equal(await client.evalSha(hash, { keys: [name], arguments: ['3'] }), 5)
    assert.equal(await client.get(name), '5')
  },
  'carries large values': async client => {
    const name = key()
    await client.set(name, LARGE)
    for (let pass = 0; pass < 2; pass++) assert.ok(await client.get(name) === LARGE)
    await client.unlink(name)
  },
  'keeps databases apart': async (client, connect) => {
    const [other, name] = [await connect({ database: 3 }), key()]
    await client.set(name, 'here')
    assert.equal(await other.get(name), null)
    await other.set(name, 'there')
    assert.deepEqual([await client.get(name), await other.get(name)], ['here', 'there'])
    await client.select(3)
    assert.equal(await client.get(name), 'there')
    await other.del(name)
  },
  'is told of errors as Redis says them': async (client, connect) => {
    const name = key()
    await client.set(name, 'text')
    await assert.rejects(client.incr(name), error => error instanceof ErrorReply && /not an integer/.test(error.message))
    await assert.rejects(client.lLen(name), /WRONGTYPE/)
    await assert.rejects(client.sendCommand(['NOSUCHCOMMAND']), /unknown command/)
    await assert.rejects(connect({ username: 'nobody', password: 'wrong' }), /WRONGPASS/)
  }
}, connecting)
