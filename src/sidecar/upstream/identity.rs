//! Proof that a sidecar is of the same service: it has the token, too. PURE.
//!
//! An address that was a replica's may be the pod of somebody else by now, who would get requests with
//! cookies. So whoever is at an address is asked for a proof of it: a digest of a number that nobody has
//! seen before, and of the address that was asked, under the token. An answer that was passed on from a
//! replica at another address is none for this one.

use std::{fmt::Write, net::IpAddr};

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What SHA-256 takes at once (FIPS 180-4 §5.1.1).
const BLOCK: usize = 64;
/// A number in hexadecimal digits, neither guessed nor a burden.
const NONCE: std::ops::RangeInclusive<usize> = 16..=64;

/// What a service's sidecars have in common and nobody else has.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; BLOCK]);

impl Key {
    /// Of the token; an empty one is none.
    #[must_use]
    pub fn of(token: &[u8]) -> Option<Self> {
        let token = token.trim_ascii();
        let mut key = [0; BLOCK];
        if token.is_empty() {
            return None;
        }
        // RFC 2104 §2: one that is longer than a block is digested first.
        let digested = (token.len() > BLOCK).then(|| Sha256::digest(token));
        let short = digested.as_deref().unwrap_or(token);
        key.iter_mut().zip(short).for_each(|(key, byte)| *key = *byte);
        Some(Self(key))
    }

    /// The mark of requests that sidecars of this service send to the applications of others.
    #[must_use]
    pub fn mark(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.digest("cachedservice hop")).ok()
    }

    /// HMAC with SHA-256 (RFC 2104 §2), in hexadecimal digits.
    fn digest(&self, text: &str) -> String {
        let padded = |pad: u8| self.0.map(|byte| byte ^ pad);
        let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
        let outer = Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize();
        outer.iter().fold(String::new(), |mut digits, byte| {
            // Writing into a String cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}

/// What a sidecar is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    nonce: String,
    address: IpAddr,
}

impl Question {
    /// Whoever is at `address`, with a number that has not been used before.
    #[must_use]
    pub fn to(address: IpAddr, number: u128) -> Self {
        Self { nonce: format!("{number:032x}"), address }
    }

    /// As it stands in the query of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(query: &str) -> Result<Self, String> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(found, _)| *found == name).map(|(_, value)| value);
            value.ok_or_else(|| format!("it asks without {name}"))
        };
        let (nonce, address) = (value("nonce")?, value("address")?);
        if !NONCE.contains(&nonce.len()) || !nonce.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("nonce is 16 to 64 hexadecimal digits".to_owned());
        }
        let address = address.parse().map_err(|_| "address is no address of IP".to_owned())?;
        Ok(Self { nonce: nonce.to_owned(), address })
    }

    /// The query of a request.
    #[must_use]
    pub fn query(&self) -> String {
        format!("nonce={}&address={}", self.nonce, self.address)
    }

    /// Who is meant.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

/// What a sidecar says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// The port of its application.
    port: u16,
    /// Whether its pod is on its way out.
    draining: bool,
    /// That it is of the service, and has said these.
    proof: String,
    /// The same with the token of before, for who has not seen the present one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former: Option<String>,
}

impl Card {
    /// The answer to a question.
    #[must_use]
    pub fn answering(question: &Question, key: &Key, port: u16, draining: bool) -> Self {
        Self { port, draining, proof: proof(question, key, port, draining), former: None }
    }

    /// The same, with a proof by the key of before, too.
    #[must_use]
    pub fn also_by(self, question: &Question, key: &Key) -> Self {
        Self { former: Some(proof(question, key, self.port, self.draining)), ..self }
    }

    /// Whether it answers this question, by this key.
    #[must_use]
    pub fn proves(&self, question: &Question, key: &Key) -> bool {
        let right = proof(question, key, self.port, self.draining);
        let given = [Some(&self.proof), self.former.as_ref()];
        given.into_iter().flatten().any(|given| right.as_bytes().ct_eq(given.as_bytes()).into())
    }

    /// The port of its application.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its pod is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }
}

fn proof(Question { nonce, address }: &Question, key: &Key, port: u16, draining: bool) -> String {
    key.digest(&format!("cachedservice peer\n{nonce}\n{address}\n{port}\n{draining}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(token: &[u8]) -> Key {
        Key::of(token).unwrap()
    }

    fn question(address: &str, number: u128) -> Question {
        Question::to(address.parse().unwrap(), number)
    }

    #[test]
    fn the_digest_is_that_of_rfc_4231() {
        assert_eq!(
            key(b"Jefe").digest("what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            key(&[0xaa; 131]).digest("Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    #[test]
    fn a_proof_is_for_one_question_of_one_address_by_who_has_the_token() {
        let asked = question("10.0.0.1", 1);
        let card = Card::answering(&asked, &key(b"token\n"), 8080, false);
        assert!(card.proves(&asked, &key(b"token")));
        assert!(!card.proves(&asked, &key(b"another")));
        assert!(!card.proves(&question("10.0.0.1", 2), &key(b"token")), "it was heard before");
        assert!(!card.proves(&question("10.0.0.2", 1), &key(b"token")), "it was passed on by another");
        for changed in [Card { port: 22, ..card.clone() }, Card { draining: true, ..card.clone() }] {
            assert!(!changed.proves(&asked, &key(b"token")));
        }
        assert!(!Card { proof: String::new(), ..card }.proves(&asked, &key(b"token")));
        assert!(Key::of(b" \n").is_none());
    }

    #[test]
    fn while_the_token_changes_a_proof_is_one_for_who_has_either() {
        let asked = question("10.0.0.1", 1);
        let card = Card::answering(&asked, &key(b"new"), 8080, false).also_by(&asked, &key(b"old"));
        assert!(card.proves(&asked, &key(b"new")) && card.proves(&asked, &key(b"old")));
        assert!(!card.proves(&asked, &key(b"other")) && !card.proves(&question("10.0.0.1", 2), &key(b"old")));
        let told = r#"{"port":8080,"draining":false,"proof":"x"}"#;
        let of_before: Card = serde_json::from_str(told).unwrap();
        assert_eq!(serde_json::to_string(&of_before).unwrap(), told, "as releases of before say it");
    }

    #[test]
    fn a_question_stands_in_a_query_and_others_are_refused() {
        for asked in [question("10.0.0.1", 7), question("fd00::1", u128::MAX)] {
            assert_eq!(Question::parse(&asked.query()), Ok(asked));
        }
        for (wrong, why) in [
            ("address=10.0.0.1", "without nonce"),
            ("nonce=0123456789abcdef", "without address"),
            ("nonce=0123&address=10.0.0.1", "digits"),
            ("nonce=0123456789abcdeg&address=10.0.0.1", "digits"),
            ("nonce=0123456789abcdef&address=shop", "no address"),
        ] {
            assert!(Question::parse(wrong).unwrap_err().contains(why), "{wrong}");
        }
    }

    #[test]
    fn the_mark_of_one_service_is_not_that_of_another() {
        assert_ne!(key(b"one").mark(), key(b"another").mark());
        assert_eq!(key(b"one").mark(), key(b"one\n").mark());
    }
}
