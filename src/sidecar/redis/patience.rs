//! A time limit that counts the time of Redis, not that of a process which is short of CPU itself.

use std::{future::Future, time::Duration};

use tokio::{pin, time::timeout};

/// In so many parts a limit is waited for.
const PARTS: u32 = 5;

/// The output of a future that comes within a limit, or None.
///
/// Where a thousand requests come at once, their tasks stand before the one that reads what Redis has said in
/// time, and the timer comes late, too: who gave up then would ask the application beside another replica. So
/// the limit is waited for in parts, and after each of them the other tasks have their turn. Where nothing else
/// is to be done it is the limit that is given.
pub(super) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    pin!(future);
    for _ in 0..PARTS {
        if let Ok(output) = timeout(limit / PARTS, &mut future).await {
            return Some(output);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::{sync::oneshot, task::yield_now, time::sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_holds_where_nothing_else_is_to_be_done() {
        let began = tokio::time::Instant::now();
        let limit = Duration::from_millis(10);
        assert_eq!(within(limit, std::future::pending::<()>()).await, None);
        // Each timer is good for a millisecond.
        assert!((limit..limit * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        let soon = async { sleep(Duration::from_millis(7)).await };
        assert_eq!(within(limit, soon).await, Some(()));
    }

    #[tokio::test]
    async fn an_answer_that_came_in_time_is_had_however_late_this_process_is() {
        let (sender, answer) = oneshot::channel();
        // Has the answer, and is kept from handing it over by what else is to be done.
        let reader = tokio::spawn(async move {
            busy(Duration::from_millis(30));
            yield_now().await;
            let _ = sender.send(());
        });
        let had = within(Duration::from_millis(10), answer).await;
        assert_eq!(had, Some(Ok(())));
        reader.await.unwrap();
    }

    fn busy(time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}
