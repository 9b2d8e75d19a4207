//! The keys of the near-cache that are hit most, of all replicas together.

use std::{collections::BTreeMap, fmt, time::Duration};

use kube::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CommandError,
    children::children,
    sidecars::{ask_all_for, has_sidecar, token},
};

/// A replica tells of so many keys at most. Those that another has at its top may be further down here.
const OF_EACH: usize = 1000;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// For so long it is counted.
    pub seconds: u16,
    /// So many keys are told.
    pub limit: usize,
}

/// What one replica tells.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    hits: u64,
    hits_of_long_keys: u64,
    missed: u64,
    keys: Vec<ToldKey>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldKey {
    key: String,
    hits: u64,
    bytes: u64,
    ttl_ms: Option<u64>,
}

/// The keys that are hit most.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// For so many seconds it was counted.
    pub seconds: u16,
    /// Reads that were answered from memory in that time.
    pub hits: u64,
    /// Those of keys that are too long to be counted each.
    pub hits_of_long_keys: u64,
    /// Of each key there may be so many hits more.
    pub missed: u64,
    /// Replicas that have answered.
    pub replicas: usize,
    /// The keys, from that which is hit most on.
    pub keys: Vec<Key>,
    /// Why others have not, by the name of their pod.
    pub errors: BTreeMap<String, String>,
}

/// A key, of all replicas together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The key; what cannot be printed of it is escaped.
    pub key: String,
    /// Reads of it that were answered from memory, at least.
    pub hits: u64,
    /// What is in memory of it, in bytes.
    pub bytes: u64,
    /// For so many milliseconds the last of it is given; none where nothing is in memory any more.
    pub ttl_ms: Option<u64>,
    /// Replicas that have it in memory.
    pub replicas: usize,
}

/// Asks every sidecar of a CachedService.
///
/// # Errors
/// When there is none, or none that may be asked.
pub async fn top(client: &Client, namespace: &str, name: &str, wanted: Wanted) -> Result<Top, CommandError> {
    let children = children(client, namespace, name).await?;
    if !children.pods.iter().any(has_sidecar) {
        return Err(CommandError::Wrong(format!(
            "no pod of {name} has a sidecar that runs; write spec.cache.application for one with a near-cache"
        )));
    }
    let token = token(client, namespace, name).await?;
    let path = format!("/top?seconds={}&limit={OF_EACH}", wanted.seconds);
    let time = Duration::from_secs(wanted.seconds.into());
    let told = ask_all_for(time, client, namespace, &children.pods, &path, &token).await;
    Ok(together(wanted, told))
}

/// What all tell together. PURE.
fn together(wanted: Wanted, told: BTreeMap<String, Result<Value, String>>) -> Top {
    let mut top = Top { seconds: wanted.seconds, ..Top::default() };
    let mut keys: BTreeMap<String, Key> = BTreeMap::new();
    for (pod, told) in told {
        let told = told.and_then(|told| {
            serde_json::from_value::<Told>(told)
                .map_err(|error| format!("its answer is not understood: {error}"))
        });
        let told = match told {
            Ok(told) => told,
            Err(why) => {
                top.errors.insert(pod, why);
                continue;
            }
        };
        top.replicas += 1;
        top.hits = top.hits.saturating_add(told.hits);
        top.hits_of_long_keys = top.hits_of_long_keys.saturating_add(told.hits_of_long_keys);
        top.missed = top.missed.saturating_add(told.missed);
        for ToldKey { key, hits, bytes, ttl_ms } in told.keys {
            let sum = keys.entry(key).or_default();
            sum.hits = sum.hits.saturating_add(hits);
            sum.bytes = sum.bytes.saturating_add(bytes);
            sum.ttl_ms = sum.ttl_ms.max(ttl_ms);
            sum.replicas += usize::from(ttl_ms.is_some());
        }
    }
    top.keys = keys.into_iter().map(|(key, sum)| Key { key, ..sum }).collect();
    // Keys with as many hits stay in the order of their names.
    top.keys.sort_by_key(|key| std::cmp::Reverse(key.hits));
    top.keys.truncate(wanted.limit);
    top
}

impl Top {
    /// Whether any sidecar has answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.replicas > 0
    }
}

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (pod, why) in &self.errors {
            writeln!(f, "{pod} does not answer: {why}")?;
        }
        if !self.is_answered() {
            return writeln!(
                f,
                "no sidecar has answered; it takes the rights to get secrets, and to get and create pods/portforward, in the namespace"
            );
        }
        let (hits, seconds, replicas) = (self.hits, self.seconds, self.replicas);
        let by = if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
        writeln!(f, "{hits} reads answered from memory in {seconds} s, by {by}")?;
        if self.missed > 0 {
            writeln!(f, "of each key there may be {} hits more: there are many keys", self.missed)?;
        }
        if self.hits_of_long_keys > 0 {
            writeln!(f, "{} of the hits are of keys too long to be counted each", self.hits_of_long_keys)?;
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        let head = ["HITS", "SHARE", "BYTES", "TTL", "REPLICAS"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once((head, "KEY"))
            .chain(self.keys.iter().map(|key| (self.row(key), key.key.as_str())))
            .collect();
        for (cells, key) in &rows {
            for (column, cell) in cells.iter().enumerate() {
                let width = rows.iter().filter_map(|(cells, _)| Some(cells.get(column)?.len())).max();
                write!(f, "{cell:>width$}  ", width = width.unwrap_or_default())?;
            }
            writeln!(f, "{key}")?;
        }
        Ok(())
    }
}

impl Top {
    fn row(&self, key: &Key) -> [String; 5] {
        let permille = (u128::from(key.hits) * 1000).checked_div(self.hits.into()).unwrap_or_default();
        let ttl = key.ttl_ms.map_or("-".to_owned(), |left| format!("{}.{}s", left / 1000, left % 1000 / 100));
        [
            key.hits.to_string(),
            format!("{}.{}%", permille / 10, permille % 10),
            key.bytes.to_string(),
            ttl,
            key.replicas.to_string(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told() -> BTreeMap<String, Result<Value, String>> {
        let one = json!({
            "pod": "shop-1", "seconds": 3, "hits": 1200, "hitsOfLongKeys": 0, "missed": 0, "keys": [
                { "key": "user:1", "hits": 1000, "bytes": 310, "replies": 1, "ttlMs": 41_250 },
                { "key": "user:2", "hits": 200, "bytes": 0, "replies": 0, "ttlMs": null },
            ],
        });
        let other = json!({
            "hits": 800, "hitsOfLongKeys": 0, "missed": 0, "keys": [
                { "key": "price:7", "hits": 500, "bytes": 96, "replies": 1, "ttlMs": 900 },
                { "key": "user:1", "hits": 300, "bytes": 310, "replies": 1, "ttlMs": 59_999 },
            ], "later": true,
        });
        BTreeMap::from([
            ("shop-1".to_owned(), Ok(one)),
            ("shop-2".to_owned(), Ok(other)),
            ("shop-3".to_owned(), Err("400 Bad Request: this pod has no near-cache".to_owned())),
        ])
    }

    #[test]
    fn hits_and_bytes_are_of_all_replicas_together() {
        let shown = together(Wanted { seconds: 3, limit: 10 }, told()).to_string();
        let expected = "\
shop-3 does not answer: 400 Bad Request: this pod has no near-cache
2000 reads answered from memory in 3 s, by 2 replicas
HITS  SHARE  BYTES    TTL  REPLICAS  KEY
1300  65.0%    620  59.9s         2  user:1
 500  25.0%     96   0.9s         1  price:7
 200  10.0%      0      -         0  user:2
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn programs_get_the_first_as_they_are() {
        let top = json!(together(Wanted { seconds: 3, limit: 1 }, told()));
        assert_eq!((&top["hits"], &top["replicas"], &top["seconds"]), (&json!(2000), &json!(2), &json!(3)));
        let key = json!([{ "key": "user:1", "hits": 1300, "bytes": 620, "ttlMs": 59_999, "replicas": 2 }]);
        assert_eq!(top["keys"], key);
        assert!(top["errors"]["shop-3"].is_string());
    }

    #[test]
    fn what_is_not_known_for_certain_is_said() {
        let many = json!({ "hits": 9000, "hitsOfLongKeys": 12, "missed": 4, "keys": [] });
        let told = BTreeMap::from([("shop-1".to_owned(), Ok(many))]);
        let top = together(Wanted { seconds: 1, limit: 10 }, told);
        assert_eq!(
            top.to_string(),
            "9000 reads answered from memory in 1 s, by 1 replica\n\
             of each key there may be 4 hits more: there are many keys\n\
             12 of the hits are of keys too long to be counted each\n"
        );
        let silent = BTreeMap::from([
            ("shop-1".to_owned(), Err("404 Not Found".to_owned())),
            ("shop-2".to_owned(), Ok(json!("no object"))),
        ]);
        let top = together(Wanted { seconds: 1, limit: 10 }, silent);
        assert!(!top.is_answered() && top.errors.len() == 2);
        assert!(top.to_string().contains("get and create pods/portforward"), "{top}");
    }
}
