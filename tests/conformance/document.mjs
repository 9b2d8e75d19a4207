// Sections of docs/http-cache.md that are made of what the tests know.
import { readFileSync, writeFileSync } from 'node:fs'

const DOCUMENT = new URL('../../docs/http-cache.md', import.meta.url)

/** Writes a section, or says what is wrong with the one that is there. */
export function section (name, lines, isUpdated) {
  const text = readFileSync(DOCUMENT, 'utf8')
  const [start, end] = [`<!-- ${name} -->\n`, `<!-- end of ${name} -->\n`]
  const [from, to] = [text.indexOf(start) + start.length, text.indexOf(end)]
  if (from < start.length || to < from) return [`docs/http-cache.md has no section «${name}»`]
  const wanted = `\n${lines.join('\n')}\n\n`
  if (text.slice(from, to) === wanted) return []
  if (!isUpdated) return [`the section «${name}» of docs/http-cache.md is not as the tests say: run with --update`]
  writeFileSync(DOCUMENT, text.slice(0, from) + wanted + text.slice(to))
  return []
}
