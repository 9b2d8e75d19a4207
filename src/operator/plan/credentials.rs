//! The password of a Redis and what is derived from it.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::ByteString;
use rand::{RngExt, distr::Alphanumeric};
use sha2::{Digest, Sha256};

use super::Identity;
use crate::{
    api::names::{REDIS_PORT, SECRET_ACL, SECRET_PASSWORD, SECRET_SALT, SECRET_URL},
    operator::digest::{digest, hex},
};

/// The password of a Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    password: String,
    /// Keys [`Self::revision`].
    salt: String,
}

impl Credentials {
    /// The credentials in a Secret's data; a part that is missing, empty or not
    /// text is taken from `fresh`.
    #[must_use]
    pub fn read(data: &BTreeMap<String, ByteString>, fresh: Self) -> Self {
        let text = |key: &str| {
            data.get(key)
                .and_then(|value| std::str::from_utf8(&value.0).ok())
                // A file that was made by an editor or `echo` ends in a newline that nobody meant.
                .map(|text| text.trim_end_matches(['\r', '\n']))
                .filter(|text| !text.is_empty() && !text.contains(['\0', '\r', '\n']))
                .map(ToOwned::to_owned)
        };
        Self {
            password: text(SECRET_PASSWORD).unwrap_or(fresh.password),
            salt: text(SECRET_SALT).unwrap_or(fresh.salt),
        }
    }

    /// New random credentials: 32 letters and digits, about 190 bits.
    #[must_use]
    pub fn random() -> Self {
        let text = || rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
        Self { password: text(), salt: text() }
    }

    /// The data of the Secret.
    #[must_use]
    pub fn data(&self, identity: &Identity) -> BTreeMap<String, ByteString> {
        let bytes = |text: String| ByteString(text.into_bytes());
        BTreeMap::from([
            (SECRET_PASSWORD.to_owned(), bytes(self.password.clone())),
            (SECRET_URL.to_owned(), bytes(self.url(identity))),
            (SECRET_ACL.to_owned(), bytes(self.acl())),
            (SECRET_SALT.to_owned(), bytes(self.salt.clone())),
        ])
    }

    /// Changes with the password and tells nothing of it: pods carry it, so
    /// that they are rolled onto a new password.
    #[must_use]
    pub fn revision(&self) -> String {
        digest([self.salt.as_str(), &self.password])
    }

    fn url(&self, identity: &Identity) -> String {
        let password = percent_encode(&self.password);
        let (name, namespace) = (identity.redis_name(), &identity.namespace);
        format!("redis://default:{password}@{name}.{namespace}.svc:{REDIS_PORT}/0")
    }

    /// Redis's ACL file, with the password as a SHA-256 (Redis documentation, "ACL").
    fn acl(&self) -> String {
        format!("user default on #{} ~* &* +@all\n", hex(&Sha256::digest(self.password.as_bytes())))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

/// Everything but the unreserved characters of RFC 3986 §2.3, so that a password
/// of any form stands safely in a URL.
fn percent_encode(text: &str) -> String {
    use fmt::Write;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(password: &str) -> Credentials {
        Credentials { password: password.to_owned(), salt: "salt".to_owned() }
    }

    fn identity() -> Identity {
        Identity { name: "shop".to_owned(), namespace: "prod".to_owned(), ..Identity::default() }
    }

    #[test]
    fn a_password_of_any_form_stands_safely_in_the_url() {
        let url = with("p@ss:w/ö").url(&identity());
        assert_eq!(url, "redis://default:p%40ss%3Aw%2F%C3%B6@shop-redis.prod.svc:6379/0");
    }

    #[test]
    fn a_password_that_the_user_wrote_is_kept() {
        let data = BTreeMap::from([(SECRET_PASSWORD.to_owned(), ByteString(b"mine\n".to_vec()))]);
        assert_eq!(Credentials::read(&data, with("fresh")).password, "mine");
    }

    #[test]
    fn an_empty_or_broken_password_is_replaced() {
        for broken in [&b""[..], b"\n", b"\xff\xfe", b"a\0b", b"a\nb"] {
            let data = BTreeMap::from([(SECRET_PASSWORD.to_owned(), ByteString(broken.to_vec()))]);
            assert_eq!(Credentials::read(&data, with("fresh")).password, "fresh", "{broken:?}");
        }
    }

    #[test]
    fn the_revision_changes_with_the_password_and_hides_it() {
        assert_ne!(with("a").revision(), with("b").revision());
        assert!(!format!("{:?}", with("secret-password")).contains("secret-password"));
        let other_salt = Credentials { salt: "other".to_owned(), ..with("a") };
        assert_ne!(with("a").revision(), other_salt.revision());
    }

    #[test]
    fn what_is_written_to_the_secret_reads_back_the_same() {
        let written = Credentials::random();
        assert_eq!(Credentials::read(&written.data(&identity()), Credentials::random()), written);
    }
}
