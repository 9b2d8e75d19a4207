//! Waiting for a condition, with a limit.

use std::{
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(50);

/// Tries until the answer is `Ok`; panics with the last `Err` when the time is up.
#[track_caller]
pub fn until<T>(
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, String>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        loop {
            match attempt().await {
                Ok(value) => return value,
                Err(last) if started.elapsed() >= limit => panic!("{caller}: not within {limit:?}: {last}"),
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}
