// Exchanges made up by chance, the same for the same seed: a request, its response, and a later request.

/** When all of them come, in milliseconds since 1970: `Thu, 26 Nov 2026 12:00:00 GMT`. */
const NOON = Date.UTC(2026, 10, 26, 12)

/** Numbers from 0 to 1 by a seed (mulberry32, which is in the public domain). */
function chance (seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}

const SECONDS = ['0', '1', '5', '10', '60', '3600', '90000']
const ODD_SECONDS = ['', '-1', '1.5', '10s', 'a', '"60"', '007', '99999999999', ' 60']
const STATUSES = [200, 200, 200, 200, 203, 204, 301, 302, 307, 308, 400, 404, 410, 429, 500, 503, 599]
const FLAGS = ['no-store', 'no-cache', 'private', 'public', 'must-revalidate', 'proxy-revalidate', 'must-understand', 'immutable', 'no-transform']
const TIMED = ['max-age', 'max-age', 's-maxage', 'stale-while-revalidate', 'stale-if-error']
const ODD = ['', 'max-age', 'private="set-cookie"', 'no-cache="x"', 'ext="a, no-store, b"', 'No-Store', 'MAX-AGE=60', 'max-age =60', 'unknown=1']
const ASKED = ['no-cache', 'no-store', 'max-stale', 'only-if-cached']
const ASKED_TIMED = ['max-age', 'min-fresh', 'max-stale']
const LANGUAGES = ['en', 'EN', 'de', 'en, de', 'en,de', 'de, en']

export function exchanges (seed, count) {
  const random = chance(seed)
  const one = list => list[Math.floor(random() * list.length)]
  const times = (most, make) => Array.from({ length: Math.floor(random() * (most + 1)) }, make)
  const with_ = (probability, make) => random() < probability ? [make()] : []
  const seconds = () => random() < 0.9 ? one(SECONDS) : one(ODD_SECONDS)
  const date = offset => new Date(NOON + offset * 1000).toUTCString()

  const directive = () => {
    const kind = random()
    if (kind < 0.55) return `${one(TIMED)}=${seconds()}`
    if (kind < 0.93) return one(FLAGS)
    return one(ODD)
  }
  const asked = () => random() < 0.5 ? one(ASKED) : `${one(ASKED_TIMED)}=${seconds()}`
  const control = () => times(3, directive).join(random() < 0.5 ? ', ' : ',')
  const expires = () => random() < 0.8
    ? date(one([-3600, 0, 1, 60, 3600, 90000]))
    : one(['0', '', 'soon', 'Thu, 26 Nov 2026 13:00:00 +0000', 'Thursday, 26-Nov-26 13:00:00 GMT', '2026-11-26T13:00:00Z'])
  const age = () => random() < 0.8 ? one(['0', '5', '60', '4000']) : one(['-1', 'a', '1.5', '', '5, 60', '60;x=1'])
  const request = (probability) => [
    ...with_(probability, () => ['cache-control', times(2, asked).join(', ')]),
    ...with_(0.04, () => ['pragma', 'no-cache']),
    ...with_(0.06, () => ['authorization', 'Basic eA==']),
    ...with_(0.1, () => ['cookie', 'session=1']),
    ...with_(0.4, () => ['accept-language', one(LANGUAGES)]),
    ...with_(0.1, () => ['x-kind', one(['a', 'A', 'a, b', 'a,b'])])
  ]

  return Array.from({ length: count }, () => {
    const elapsed = one([0, 0, 0, 0.5, 1, 4, 5, 59, 60, 61, 100, 3600, 100000])
    const delay = one([0, 0, 0, 0, 2])
    return {
      request: request(0.1),
      status: one(STATUSES),
      response: [
        ...with_(0.8, () => ['date', date(one([0, 0, 0, -5, -100, -4000, 50]))]),
        ...with_(0.75, () => ['cache-control', control()]),
        ...with_(0.08, () => ['cache-control', control()]),
        ...with_(0.06, () => ['cdn-cache-control', one(['max-age=60', 'no-store', 'private', 's-maxage=5, max-age=60', 'max-age=0, public', 'MAX-AGE=60', 'max-age=60,', ''])]),
        ...with_(0.25, () => ['expires', expires()]),
        ...with_(0.25, () => ['last-modified', date(one([-10, -1000, -100000, -10000000, 100]))]),
        ...with_(0.2, () => ['age', age()]),
        ...with_(0.3, () => ['vary', one(['accept-language', 'Accept-Language, X-Kind', 'x-kind', '*', ''])]),
        ...with_(0.04, () => ['set-cookie', 'a=b']),
        ...with_(0.04, () => ['pragma', 'no-cache'])
      ],
      requested: NOON - delay * 1000,
      received: NOON,
      next: request(0.25),
      now: NOON + elapsed * 1000
    }
  })
}
