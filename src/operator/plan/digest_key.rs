//! The key of the digests of what the application refers to.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::ByteString;
use rand::{RngExt, distr::Alphanumeric};

use crate::{api::names::SECRET_SALT, operator::digest::digest};

/// Keys the digests in pod templates, so that nobody who can read pods can try
/// the contents of Secrets against them.
#[derive(Clone, PartialEq, Eq)]
pub struct DigestKey(String);

impl DigestKey {
    /// The key in a Secret's data, or `fresh` if there is none.
    #[must_use]
    pub fn read(data: &BTreeMap<String, ByteString>, fresh: Self) -> Self {
        let written = data.get(SECRET_SALT).and_then(|value| std::str::from_utf8(&value.0).ok());
        written.filter(|key| !key.is_empty()).map_or(fresh, |key| Self(key.to_owned()))
    }

    /// A new random key: 32 letters and digits, about 190 bits.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect())
    }

    /// The data of the Secret.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        BTreeMap::from([(SECRET_SALT.to_owned(), ByteString(self.0.clone().into_bytes()))])
    }

    /// Changes with the content and tells nothing of it.
    #[must_use]
    pub fn revision(&self, content: &str) -> String {
        digest([self.0.as_str(), content])
    }
}

impl fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DigestKey").finish_non_exhaustive()
    }
}
