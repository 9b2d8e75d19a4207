// What ioredis does at the URL that is given.
import { createHash } from 'node:crypto'
import { Redis } from 'ioredis'
import { assert, COUNT, key, LARGE, report, until } from './report.mjs'

const [url] = process.argv.slice(2)

async function connecting (options) {
  const client = new Redis(url, { lazyConnect: true, retryStrategy: null, maxRetriesPerRequest: 0, ...options })
  client.on('error', () => {})
  await client.connect()
  return client
}

await report('ioredis', {
  'speaks the protocol it asked for': async client => {
    assert.equal(await client.ping(), 'PONG')
    const found = await client.call('HELLO')
    assert.equal(found[found.indexOf('proto') + 1], client.options.protocol)
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
    await client.hset(hash, { one: '1', two: '2' })
    await client.sadd(set, 'a', 'b')
    await client.zadd(sorted, 1.5, 'a', 2, 'b')
    for (let pass = 0; pass < 2; pass++) {
      assert.deepEqual({ ...await client.hgetall(hash) }, { one: '1', two: '2' })
      assert.deepEqual((await client.smembers(set)).sort(), ['a', 'b'])
      assert.deepEqual(await client.zrange(sorted, 0, -1, 'WITHSCORES'), ['a', '1.5', 'b', '2'])
    }
  },
  'keeps the order in a pipeline': async client => {
    const [name, pipeline] = [key(), client.pipeline()]
    for (let count = 0; count < COUNT; count++) pipeline.set(name, count).get(name)
    const replies = await pipeline.exec()
    assert.deepEqual(replies.filter((_, n) => n % 2), Array.from({ length: COUNT }, (_, n) => [null, String(n)]))
  },
  'runs transactions': async client => {
    const name = key()
    assert.deepEqual(await client.multi().set(name, '1').incr(name).get(name).exec(), [[null, 'OK'], [null, 2], [null, '2']])
  },
  'gives up a transaction whose key was changed under WATCH': async (client, connect) => {
    const [other, name] = [await connect(), key()]
    await client.set(name, '1')
    await client.watch(name)
    assert.equal(await client.get(name), '1')
    await other.set(name, '2')
    assert.equal(await client.multi().set(name, '3').exec(), null)
    assert.equal(await client.get(name), '2')
  },
  'hears what is published, by channel and by pattern': async (client, connect) => {
    const [subscriber, channel, heard] = [await connect(), key(), []]
    subscriber.on('message', (_, message) => heard.push(message))
    subscriber.on('pmessage', (pattern, _, message) => heard.push(message))
    assert.equal(await subscriber.subscribe(channel), 1)
    assert.equal(await subscriber.psubscribe(`${channel}*`), 2)
    assert.equal(await client.publish(channel, 'hello'), 2)
    await until(() => heard.length === 2)
    assert.deepEqual(heard, ['hello', 'hello'])
    await subscriber.unsubscribe(channel)
    await subscriber.punsubscribe(`${channel}*`)
    assert.equal(String(await subscriber.ping()), 'PONG')
  },
  'waits in a blocking pop for what is pushed, and no longer than it said': async (client, connect) => {
    const [other, name] = [await connect(), key()]
    const popped = client.blpop(name, 10)
    await other.rpush(name, 'pushed')
    assert.deepEqual(await popped, [name, 'pushed'])
    assert.equal(await client.blpop(name, 0.1), null)
  },
  'runs scripts by text and by hash': async client => {
    const name = key()
    const script = `return redis.call('INCRBY', KEYS[1], ARGV[1]) -- ${name}`
    const hash = createHash('sha1').update(script).digest('hex')
    await assert.rejects(client.evalsha(hash, 1, name, 2), /NOSCRIPT/)
    assert.equal(await client.eval(script, 1, name, 2), 2)
    assert.equal(await client.get(name), '2')
    assert.equal(await client.evalsha(hash, 1, name, 3), 5)
    assert.equal(await client.get(name), '5')
  },
  'carries large values': async client => {
    const name = key()
    await client.set(name, LARGE)
    for (let pass = 0; pass < 2; pass++) assert.ok(await client.get(name) === LARGE)
    await client.unlink(name)
  },
  'keeps databases apart': async (client, connect) => {
    const [other, name] = [await connect({ db: 3 }), key()]
    await client.set(name, 'here')
    assert.equal(await other.get(name), null)
    await other.set(name, 'there')
    assert.deepEqual([await client.get(name), await other.get(name)], ['here', 'there'])
    await client.select(3)
    assert.equal(await client.get(name), 'there')
    await other.del(name)
  },
  'is told of errors as Redis says them': async client => {
    const name = key()
    await client.set(name, 'text')
    await assert.rejects(client.incr(name), /not an integer/)
    await assert.rejects(client.llen(name), /WRONGTYPE/)
    await assert.rejects(client.call('NOSUCHCOMMAND'), /unknown command/)
    await assert.rejects(client.auth('nobody', 'wrong'), /WRONGPASS/)
  }
}, connecting)
