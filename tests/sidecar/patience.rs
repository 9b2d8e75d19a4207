//! Waiting for something, with a limit.

use std::time::{Duration, Instant};

/// The limit of everything that is waited for.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Tries until there is something.
pub async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
