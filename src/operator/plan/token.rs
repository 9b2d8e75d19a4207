//! The token that purges ask for.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::ByteString;
use rand::RngExt;

use crate::{
    api::names::{SECRET_SALT, SECRET_TOKEN},
    operator::digest::{digest, hex},
};

/// The token of a CachedService's sidecars, which the operator and the application have.
#[derive(Clone, PartialEq, Eq)]
pub struct SidecarToken {
    token: String,
    /// Keys [`Self::revision`].
    salt: String,
}

impl SidecarToken {
    /// The token in a Secret's data; one that is missing, or that no request could carry, is taken
    /// from `fresh`.
    #[must_use]
    pub fn read(data: &BTreeMap<String, ByteString>, fresh: Self) -> Self {
        let text = |key: &str| {
            data.get(key)
                .and_then(|value| std::str::from_utf8(&value.0).ok())
                // A file that was made by an editor or `echo` ends in a newline that nobody meant.
                .map(|text| text.trim_end_matches(['\r', '\n']))
                .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()))
                .map(ToOwned::to_owned)
        };
        Self {
            token: text(SECRET_TOKEN).unwrap_or(fresh.token),
            salt: text(SECRET_SALT).unwrap_or(fresh.salt),
        }
    }

    /// A new random one: 32 bytes.
    #[must_use]
    pub fn random() -> Self {
        let text = || hex(&rand::rng().random::<[u8; 32]>());
        Self { token: text(), salt: text() }
    }

    /// The data of the Secret, beside which others may stand.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        BTreeMap::from([
            (SECRET_TOKEN.to_owned(), bytes(&self.token)),
            (SECRET_SALT.to_owned(), bytes(&self.salt)),
        ])
    }

    /// Changes with the token and tells nothing of it: pods carry it, so that they are rolled onto a
    /// new token.
    #[must_use]
    pub fn revision(&self) -> String {
        digest([self.salt.as_str(), &self.token])
    }
}

impl fmt::Debug for SidecarToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SidecarToken").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(token: &[u8]) -> SidecarToken {
        let data = [(SECRET_TOKEN.to_owned(), ByteString(token.to_vec()))];
        SidecarToken::read(&data.into(), SidecarToken { token: "fresh".to_owned(), salt: "salt".to_owned() })
    }

    #[test]
    fn what_is_written_to_the_secret_reads_back_the_same() {
        let written = SidecarToken::random();
        assert_eq!(written.token.len(), 64);
        assert_eq!(SidecarToken::read(&written.data(), SidecarToken::random()), written);
        assert_ne!(SidecarToken::random(), written);
    }

    #[test]
    fn a_token_that_no_request_could_carry_is_replaced() {
        assert_eq!(read(b"mine\n").token, "mine");
        for broken in [&b""[..], b"\n", b"\xff\xfe", b"a b", b"a\nb"] {
            assert_eq!(read(broken).token, "fresh", "{broken:?}");
        }
    }

    #[test]
    fn the_revision_changes_with_the_token_and_hides_it() {
        assert_ne!(read(b"a").revision(), read(b"b").revision());
        assert!(!format!("{:?}", read(b"secret-token")).contains("secret-token"));
    }
}
