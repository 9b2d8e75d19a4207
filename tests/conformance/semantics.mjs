// Holds the rules of the HTTP cache against http-cache-semantics; see `semantics --help`.
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { section } from './document.mjs'
import { RULES } from './differences.mjs'
import { exchanges } from './exchanges.mjs'
import { joined } from './fields.mjs'
import { reuse, verdict } from './oracle.mjs'

const SHOWN = 5
const LIMIT = 60_000
const QUANTITIES = ['storing', 'lifetime', 'age', 'reuse']

const { values: flags } = parseArgs({
  options: {
    judge: { type: 'string' },
    seed: { type: 'string', default: '1' },
    cases: { type: 'string', default: '20000' },
    update: { type: 'boolean' }
  }
})

/** What our rules make of them. */
function judged (cases) {
  const input = cases.map(exchange => `${JSON.stringify(exchange)}\n`).join('')
  const { status, stdout, stderr, error } = spawnSync(flags.judge, { input, timeout: LIMIT, maxBuffer: 1 << 30, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${flags.judge}: ${error ?? stderr}`)
  return stdout.trimEnd().split('\n').map(line => JSON.parse(line))
}

/** In what both differ, where the other is given what the rules say. */
function differences (exchange, ours, rules) {
  const given = {
    ...exchange,
    request: joined(exchange.request),
    response: joined(exchange.response),
    next: joined(exchange.next),
    notForLifetime: [],
    notForReuse: [],
    isRefused: false
  }
  for (const rule of rules) rule.apply(given, ours)
  const theirs = verdict(given)
  const isStored = ours.refused === null
  if (isStored !== theirs.isStored) return { storing: [ours.refused ?? 'stored', theirs.isStored ? 'stored' : 'refused'] }
  if (!isStored) return {}
  const found = {}
  for (const time of ['lifetime', 'age']) {
    if (Math.abs(ours[time] - theirs[time]) > 1e-6) found[time] = [ours[time], theirs[time]]
  }
  const [one, other] = [ours.is_for ? ours.reuse : 'asked', reuse(given, ours)]
  if (one !== other) found.reuse = [one, other]
  return found
}

function main () {
  const cases = exchanges(Number(flags.seed), Number(flags.cases))
  const answers = judged(cases)
  const differ = rules => (exchange, at) => differences(exchange, answers[at], rules)
  const found = cases.map(differ(RULES))
  let failed = 0
  for (const quantity of QUANTITIES) {
    const wrong = found.flatMap((one, at) => quantity in one ? [{ exchange: cases[at], both: one[quantity] }] : [])
    console.log(`${quantity}: ${wrong.length} of ${cases.length} exchanges differ`)
    for (const one of wrong.slice(0, SHOWN)) console.log(`  ${JSON.stringify(one)}`)
    if (wrong.length > 0) failed++
  }
  // Without a rule that is needed some exchange differs.
  const unneeded = RULES.filter(rule => {
    const differs = differ(RULES.filter(other => other !== rule))
    return !cases.some((exchange, at) => Object.keys(differs(exchange, at)).length > 0)
  })
  console.log(`${RULES.length} rules of what may differ, ${unneeded.length} of them not needed`)
  for (const rule of unneeded) console.log(`  ${rule.name} (${rule.section})`)
  if (unneeded.length > 0) failed++
  const rows = RULES.map(({ name, section }) => `| ${name} | ${section} |`)
  const wrong = section('differences', ['| where they differ | by |', '| --- | --- |', ...rows], flags.update)
  for (const line of wrong) console.log(line)
  if (wrong.length > 0) failed++
  console.log(`semantics: ${QUANTITIES.length + 2 - failed} passed, ${failed} failed`)
  return failed === 0
}

process.exit(main() ? 0 : 1)
