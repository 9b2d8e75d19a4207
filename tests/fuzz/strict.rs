//! A reader of requests that is as simple as it is strict: what is read in two ways is none to it.

/// A request as it was meant: its method, its target and its body.
pub type Meant = (String, String, Vec<u8>);

/// The requests in these bytes, up to the first that is not clear.
pub fn meant(mut bytes: &[u8]) -> Vec<Meant> {
    let mut found = Vec::new();
    while let Some((request, rest)) = first(bytes) {
        found.push(request);
        bytes = rest;
    }
    found
}

pub fn first(bytes: &[u8]) -> Option<(Meant, &[u8])> {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    // Bytes as characters, one for one.
    let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next()?.split(' ').collect();
    let [method, target, version @ ("HTTP/1.1" | "HTTP/1.0")] = line[..] else { return None };
    let (mut length, mut is_chunked) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.is_empty()
            || !name.chars().all(|sign| sign.is_ascii_graphic() && !"()<>@,;\\\"/[]?={}".contains(sign))
        {
            return None;
        }
        if value.chars().any(|sign| sign != '\t' && (sign.is_ascii_control())) {
            return None;
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_none() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                length = Some(value.parse::<usize>().ok()?);
            }
            "transfer-encoding" if version == "HTTP/1.1" && !is_chunked => {
                is_chunked = value.eq_ignore_ascii_case("chunked");
                is_chunked.then_some(())?;
            }
            "content-length" | "transfer-encoding" => return None,
            _ => {}
        }
    }
    let rest = &bytes[end + 4..];
    let (body, rest) = match (length, is_chunked) {
        (Some(_), true) => return None,
        (Some(length), false) => (rest.get(..length)?.to_vec(), &rest[length..]),
        (None, true) => chunks(rest)?,
        (None, false) => (Vec::new(), rest),
    };
    Some(((method.to_owned(), target.to_owned(), body), rest))
}

fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let line = |rest: &mut &[u8]| -> Option<String> {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let line: String = rest[..end].iter().map(|byte| char::from(*byte)).collect();
        *rest = &rest[end + 2..];
        (!line.contains(['\r', '\n', '\0'])).then_some(line)
    };
    let mut body = Vec::new();
    loop {
        let size = line(&mut rest)?;
        let digits = size.split([';', ' ', '\t']).next()?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            while !line(&mut rest)?.is_empty() {}
            return Some((body, rest));
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}
