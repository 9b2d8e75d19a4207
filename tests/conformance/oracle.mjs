// What http-cache-semantics makes of an exchange, in the terms of judge.rs.
import CachePolicy from 'http-cache-semantics'
import { rewrite, without } from './fields.mjs'

function policy ({ status, request, response }, clock) {
  class Policy extends CachePolicy {
    now () { return clock.now }
  }
  const asked = { method: 'GET', url: '/', headers: { host: 'shop', ...request } }
  return new Policy(asked, { status, headers: response })
}

/** Of what it is given: whether it would be stored, and how long it is fresh and how old it is. */
export function verdict (given) {
  const clock = { now: given.received }
  const response = { ...given.response }
  rewrite(response, without(...given.notForLifetime))
  const made = policy({ ...given, response }, clock)
  clock.now = given.now
  return { isStored: made.storable() && !given.isRefused, lifetime: Math.max(made.maxAge(), 0), age: made.age() }
}

/** Whether it would answer the later request, with a lifetime and an age that are given, for which no-cache is none. */
export function reuse (given, { lifetime, age }) {
  const clock = { now: given.received }
  const answered = { ...given.response }
  rewrite(answered, without(...given.notForReuse))
  const made = policy({ ...given, response: answered }, clock)
  clock.now = given.now
  made.maxAge = () => made._rescc['no-cache'] ? 0 : lifetime
  made.age = () => age
  const { response, revalidation } = made.evaluateRequest({ method: 'GET', url: '/', headers: { host: 'shop', ...given.next } })
  if (!response) return 'asked'
  return revalidation ? 'while revalidated' : 'fresh'
}
