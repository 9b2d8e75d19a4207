// Where this cache and http-cache-semantics differ, each with the section that decides. A rule says what the
// other has to be given to come to the same: with all of them both have to agree in everything, and each
// has to be needed. docs/http-cache.md lists them.
import { argument, has, rewrite, without } from './fields.mjs'

const DAY = 86400
const LONGEST = 2 ** 31
const TIMES = ['max-age', 's-maxage', 'stale-while-revalidate', 'stale-if-error', 'min-fresh', 'max-stale']
/** The statuses that it knows, as far as they are made up. */
const KNOWN_THERE = [200, 203, 204, 301, 302, 307, 308, 404, 410]
/** Statuses that tell of how one client asked, as far as they are made up. */
const OF_ONE_REQUEST = [400, 429]
const IS_DATE = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$|^[A-Z][a-z]+day, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$/
/** A dictionary of flags and numbers (RFC 9651 §3.2), as far as they are made up. */
const IS_DICTIONARY = /^[a-z][a-z0-9-]*(=\d+)?( *, *[a-z][a-z0-9-]*(=\d+)?)*$/

const isSeconds = text => /^("\d+"|\d+)$/.test(text)
const isTimed = ([name, argument]) => TIMES.includes(name) && argument !== undefined
const first = list => list.filter(([name], at) => !TIMES.includes(name) || list.findIndex(([other]) => other === name) === at)
const members = text => (text ?? '').split(',').map(member => member.trim())

export const RULES = [
  {
    name: 'the field for such caches counts in place of the general ones, where it is well formed',
    section: 'RFC 9213 §2.2',
    apply ({ response }) {
      const targeted = response['cdn-cache-control']
      delete response['cdn-cache-control']
      if (!IS_DICTIONARY.test(targeted ?? '')) return
      response['cache-control'] = targeted
      delete response.expires
    }
  },
  {
    name: 'a comma in quotes parts no directives',
    section: 'RFC 9110 §5.6.4',
    apply ({ response }) { rewrite(response, list => list.filter(([, argument]) => !/".*,/.test(argument ?? ''))) }
  },
  {
    name: 'with a space before the equals sign it is no directive',
    section: 'RFC 9111 §5.2',
    apply ({ response }) { rewrite(response, list => list.filter(([name]) => !name.endsWith(' '))) }
  },
  {
    name: 'names of directives are the same in any case',
    section: 'RFC 9111 §5.2',
    apply ({ response }) { rewrite(response, list => list.map(([name, ...rest]) => [name.toLowerCase(), ...rest])) }
  },
  {
    name: 'a lifetime that is no number of seconds is none, and not the number that it begins with',
    section: 'RFC 9111 §4.2.1',
    apply ({ response }) {
      rewrite(response, list => list.map(one => isTimed(one) && !isSeconds(one[1]) ? [one[0], '0'] : one))
    }
  },
  {
    name: 'of two lifetimes the first counts, and not the last',
    section: 'RFC 9111 §4.2.1',
    apply ({ response }) { rewrite(response, first) }
  },
  {
    name: 'what is too large is 2^31 seconds',
    section: 'RFC 9111 §1.2.2',
    apply ({ response, next }) {
      const atMost = one => isTimed(one) && Number(one[1]) > LONGEST ? [one[0], `${LONGEST}`] : one
      for (const fields of [response, next]) rewrite(fields, list => list.map(atMost))
    }
  },
  {
    name: 'must-understand goes by the status, and no-store beside it does not count',
    section: 'RFC 9111 §5.2.2.3',
    apply ({ response, status }) {
      if (has(response, 'must-understand')) rewrite(response, status === 599 ? list => [...list, ['no-store']] : without('no-store'))
    }
  },
  {
    name: 'a status that tells of how one client asked is not stored: all others would get it',
    section: 'RFC 9111 §7.1',
    apply (given) { given.isRefused ||= OF_ONE_REQUEST.includes(given.status) }
  },
  {
    name: 'what says how long it is fresh is stored, with any other final status',
    section: 'RFC 9111 §3',
    apply (given) {
      if (!KNOWN_THERE.includes(given.status)) given.status = 302
    }
  },
  {
    name: 'no more than a day is guessed',
    section: 'RFC 9111 §4.2.2',
    apply ({ response, received }) {
      if (!('last-modified' in response)) return
      const made = 'date' in response ? Date.parse(response.date) : received
      const earliest = made - 10 * DAY * 1000
      response['last-modified'] = new Date(Math.max(Date.parse(response['last-modified']), earliest)).toUTCString()
    }
  },
  {
    name: 'immutable is about what is fresh, and makes nothing fresh',
    section: 'RFC 8246 §2',
    apply ({ response }) { rewrite(response, without('immutable')) }
  },
  {
    name: 'an Expires that is no date, or empty, is in the past',
    section: 'RFC 9111 §5.3',
    apply ({ response }) {
      if ('expires' in response && !IS_DATE.test(response.expires)) response.expires = '0'
    }
  },
  {
    name: 'Pragma means nothing in a response',
    section: 'RFC 9111 §5.4',
    apply ({ response }) { delete response.pragma }
  },
  {
    name: 'Pragma means nothing in a request',
    section: 'RFC 9111 §5.4',
    apply ({ next }) { delete next.pragma }
  },
  {
    name: 'no-cache says what may be done with a response, not how long it is fresh',
    section: 'RFC 9111 §5.2.2.4',
    apply ({ notForLifetime }) { notForLifetime.push('no-cache') }
  },
  {
    name: 'proxy-revalidate says what may be done with a stale response, not how long it is fresh',
    section: 'RFC 9111 §5.2.2.8',
    apply ({ notForLifetime }) { notForLifetime.push('proxy-revalidate') }
  },
  {
    name: 'what sets a cookie is not stored; there it is, with no lifetime',
    section: 'RFC 9111 §7.3',
    apply (given) { given.isRefused ||= 'set-cookie' in given.response }
  },
  {
    name: 'what says nothing, in answer to a cookie, is not stored: it may be the page of one user',
    section: 'RFC 9111 §7.3',
    apply (given) {
      const saysSo = ['max-age', 's-maxage', 'public'].some(name => has(given.response, name)) || 'expires' in given.response
      given.isRefused ||= 'cookie' in given.request && !saysSo
    }
  },
  {
    name: 'what varies by everything is not stored; there it is, and not used',
    section: 'RFC 9111 §4.1',
    apply (given) { given.isRefused ||= members(given.response.vary).includes('*') }
  },
  {
    name: 'an Age that is no single number is old',
    section: 'RFC 9111 §5.1',
    apply ({ response }) {
      if ('age' in response && !/^\d+$/.test(response.age)) response.age = `${LONGEST}`
    }
  },
  {
    name: 'the time on the way makes older',
    section: 'RFC 9111 §4.2.3',
    apply ({ response, requested, received }) {
      response.age = `${Number(response.age ?? 0) + (received - requested) / 1000}`
    }
  },
  {
    name: 'the age is counted from Date where that tells more',
    section: 'RFC 9111 §4.2.3',
    apply ({ response, received }) {
      if ('date' in response) response.age = `${Math.max(Number(response.age ?? 0), (received - Date.parse(response.date)) / 1000)}`
    }
  },
  {
    name: 'a number of a request that is none is passed over, and so is the second of two',
    section: 'RFC 9111 §5.2.1',
    apply ({ next }) { rewrite(next, list => first(list.filter(one => !isTimed(one) || isSeconds(one[1])))) }
  },
  {
    name: 'what forbids a stale answer forbids it whatever the request takes',
    section: 'RFC 9111 §4.2.4',
    apply ({ response, next }) {
      const forbids = ['no-cache', 'must-revalidate', 'proxy-revalidate', 's-maxage'].some(name => has(response, name))
      if (forbids) rewrite(next, without('max-stale'))
    }
  },
  {
    name: 'what forbids a stale answer forbids it while it is asked for anew',
    section: 'RFC 9111 §4.2.4',
    apply ({ response }) {
      const forbids = ['no-cache', 'must-revalidate', 'proxy-revalidate'].some(name => has(response, name))
      if (forbids) rewrite(response, without('stale-while-revalidate'))
    }
  },
  {
    name: 'must-revalidate is about stale responses, not about fresh ones',
    section: 'RFC 9111 §5.2.2.2',
    // Not for storing: it allows that for requests with credentials.
    apply ({ notForReuse }) { notForReuse.push('must-revalidate') }
  },
  {
    name: 'what is stale by just as much as the request takes is taken',
    section: 'RFC 9111 §5.2.1.2',
    apply ({ next }) {
      rewrite(next, list => list.map(one => isTimed(one) && one[0] === 'max-stale' ? [one[0], `${Number(one[1].replaceAll('"', '')) + 1e-6}`] : one))
    }
  },
  {
    name: 'what may be asked for anew meanwhile is, also where the request takes it stale',
    section: 'RFC 5861 §3',
    apply ({ response, next }, { lifetime, age }) {
      const time = Number((argument(response, 'stale-while-revalidate') ?? '0').replaceAll('"', ''))
      if (age >= lifetime && age - lifetime < time) rewrite(next, without('max-stale'))
    }
  },
  {
    name: 'fields that mean the same select the same',
    section: 'RFC 9111 §4.1',
    apply ({ request, next }) {
      for (const fields of [request, next]) {
        for (const name of ['accept-language', 'x-kind'].filter(name => name in fields)) fields[name] = members(fields[name]).join(',')
        // Languages are the same in any case (RFC 9110 §12.5.4).
        if ('accept-language' in fields) fields['accept-language'] = fields['accept-language'].toLowerCase()
      }
    }
  }
]
