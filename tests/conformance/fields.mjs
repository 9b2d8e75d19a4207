// Fields of messages, taken apart and put together.

/** Lines of one name are one field. */
export function joined (lines) {
  const fields = {}
  for (const [name, value] of lines) fields[name] = name in fields ? `${fields[name]}, ${value}` : value
  return fields
}

/** The directives of a field in the order of their lines, as [name, argument]: as they stand there. */
export function directives (text = '') {
  return (text.match(/("[^"]*"|[^,"])+/g) ?? []).map(member => {
    const at = member.indexOf('=')
    return at < 0 ? [member.trim()] : [member.slice(0, at).trimStart(), member.slice(at + 1).trimEnd()]
  })
}

export const written = list => list.map(directive => directive.join('=')).join(', ')

/** Changes the directives of a field by a function of their list. */
export function rewrite (fields, change) {
  if ('cache-control' in fields) fields['cache-control'] = written(change(directives(fields['cache-control'])))
}

export const has = (fields, name) => directives(fields['cache-control']).some(([other]) => other === name)

export const argument = (fields, name) => directives(fields['cache-control']).find(([other]) => other === name)?.[1]

/** Without the directives of these names. */
export const without = (...names) => list => list.filter(([name]) => !names.includes(name))
