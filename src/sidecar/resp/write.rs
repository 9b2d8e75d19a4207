//! What is written here, and not passed on.

use bytes::{BufMut, BytesMut};

/// The end of each line.
pub const END: &[u8] = b"\r\n";
/// What most changes are answered with.
pub const OK: &[u8] = b"+OK\r\n";

/// A number of up to 20 digits, after the sign of its type.
pub fn number(out: &mut BytesMut, sign: u8, number: usize) {
    let (mut digits, mut at, mut rest) = ([0_u8; 20], 20, number);
    loop {
        at -= 1;
        // A digit.
        #[allow(clippy::cast_possible_truncation)]
        if let Some(place) = digits.get_mut(at) {
            *place = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_u8(sign);
    out.put_slice(digits.get(at..).unwrap_or_default());
    out.put_slice(END);
}

/// A string of any bytes.
pub fn bulk(out: &mut BytesMut, text: &[u8]) {
    number(out, b'$', text.len());
    out.put_slice(text);
    out.put_slice(END);
}

/// The beginning of an array of so many elements.
pub fn array(out: &mut BytesMut, length: usize) {
    number(out, b'*', length);
}

/// An error, whose first word is its kind, such as `ERR`. Of several lines the first counts.
pub fn error(out: &mut BytesMut, text: &str) {
    out.put_u8(b'-');
    out.put_slice(text.lines().next().unwrap_or_default().as_bytes());
    out.put_slice(END);
}

/// A command of these arguments.
#[must_use]
pub fn command(args: &[&[u8]]) -> BytesMut {
    let length = args.iter().map(|arg| arg.len() + 32).sum::<usize>() + 16;
    let mut out = BytesMut::with_capacity(length);
    array(&mut out, args.len());
    for arg in args {
        bulk(&mut out, arg);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_an_array_of_strings() {
        assert_eq!(
            &command(&[b"SET", b"", b"a\r\nb 1234"])[..],
            b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$9\r\na\r\nb 1234\r\n"
        );
        let mut out = BytesMut::new();
        number(&mut out, b':', usize::MAX);
        assert_eq!(&out[..], format!(":{}\r\n", usize::MAX).as_bytes());
    }

    #[test]
    fn an_error_stays_on_one_line() {
        let mut out = BytesMut::new();
        error(&mut out, "ERR one\r\n+OK");
        assert_eq!(&out[..], b"-ERR one\r\n");
    }
}
