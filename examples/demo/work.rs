//! CPU time on demand, in bounded parallelism.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Semaphore;

/// Burns CPU on blocking threads, as many at once as the container may use.
///
/// More threads than processors would only slow each other down, and would
/// take the processor from the threads that answer `/healthz`.
pub(crate) struct Burner(Semaphore);

impl Burner {
    pub(crate) fn new() -> Self {
        // Respects a CPU limit of the container.
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new(processors))
    }

    /// Uses up `wanted` of CPU time, and returns what was really used.
    ///
    /// It is CPU time and not the clock on the wall, so that a replica that is
    /// short of CPU answers later, as a real application would.
    pub(crate) async fn burn(&self, wanted: Duration) -> Result<Duration, String> {
        let _permit = self.0.acquire().await.map_err(|e| e.to_string())?;
        tokio::task::spawn_blocking(move || spin(wanted))
            .await
            .map_err(|e| format!("the work was cut off: {e}"))
    }
}

fn spin(wanted: Duration) -> Duration {
    let start = cpu_time();
    let mut mixed = 1_u64;
    loop {
        for step in 0..10_000_u64 {
            mixed = std::hint::black_box(mixed.rotate_left(5) ^ step);
        }
        let used = cpu_time().saturating_sub(start);
        if used >= wanted {
            return used;
        }
    }
}

/// The CPU time that this thread has used so far.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
