//! Who may order something: whoever has the token that the operator has made.

use std::{
    io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

use crate::sidecar::{
    file::{Stamp, stamp},
    upstream::keys::{Keys, Known},
};

/// The token, as its file has it at each use: the kubelet puts another in its place.
pub struct Token {
    file: Option<PathBuf>,
    read: Mutex<Option<(Stamp, Vec<u8>)>>,
    keys: Keys,
}

impl Token {
    /// That of a file; without one nobody has it.
    #[must_use]
    pub fn of(file: Option<&Path>) -> Self {
        Self { file: file.map(Path::to_owned), read: Mutex::default(), keys: Keys::of(file) }
    }

    /// Whether the field `Authorization` has it (RFC 6750 §2.1).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_in(&self, authorization: Option<&[u8]>) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let Some(given) = authorization.and_then(bearer) else { return Ok(false) };
        let present = stamp(file)?;
        let mut read = self.read.lock();
        if read.as_ref().is_none_or(|(stamp, _)| *stamp != present) {
            *read = Some((present, std::fs::read(file)?));
        }
        let token = read.as_ref().map_or(&[][..], |(_, token)| token.trim_ascii());
        // An empty file is no token that everybody has.
        Ok(!token.is_empty() && bool::from(token.ct_eq(given)))
    }

    /// The keys that it makes, which are made anew only where the file is another.
    pub(super) fn keys(&self) -> Known {
        self.keys.look()
    }

    /// As it is now, for a request of this program's own.
    ///
    /// # Errors
    /// When it cannot be read, or there is none.
    pub fn text(&self) -> io::Result<String> {
        let file = self.file.as_ref().ok_or_else(|| io::Error::other("the settings name no tokenFile"))?;
        Ok(std::fs::read_to_string(file)?.trim_ascii().to_owned())
    }
}

fn bearer(field: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = field.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_present_token_opens() {
        let file = std::env::temp_dir().join(format!("token-{}", std::process::id()));
        std::fs::write(&file, "first\n").unwrap();
        let token = Token::of(Some(&file));
        let opens = |field: &str| token.is_in(Some(field.as_bytes())).unwrap();
        assert!(opens("Bearer first") && opens("bearer first"));
        for wrong in ["Bearer firs", "Bearer first2", "Bearer ", "Basic first", "first", ""] {
            assert!(!opens(wrong), "{wrong}");
        }
        assert!(!token.is_in(None).unwrap());
        std::fs::write(&file, "second one").unwrap();
        assert!(opens("Bearer second one") && !opens("Bearer first"));
        std::fs::write(&file, "\n").unwrap();
        assert!(!opens("Bearer "), "an empty token opens nothing");
        std::fs::remove_file(&file).unwrap();
        assert!(token.is_in(Some(b"Bearer second one")).is_err());
        assert!(!Token::of(None).is_in(Some(b"Bearer ")).unwrap());
    }
}
