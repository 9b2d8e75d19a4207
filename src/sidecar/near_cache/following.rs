//! The URL of Redis, as its file changes: another password, or another address.
//!
//! The connections that there are go on until one has been made by the new URL: it may be wrong, or the password not be
//! in force yet. Then others take their place, one after the other as what is asked on them is answered.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{connect::Place, near::Near, pins::Pins, pool::Pool, reach::Reach};
use crate::sidecar::file::{Look, Watched};

/// How often the file is looked at. The kubelet takes about a minute to put another there.
const PERIOD: Duration = Duration::from_secs(1);

/// What has connections.
pub(super) struct Following {
    pub url_file: PathBuf,
    pub home: Place,
    pub reach: Arc<Reach>,
    pub pool: Arc<Pool>,
    pub pins: Arc<Pins>,
    pub near: Arc<Near>,
}

impl Following {
    /// Looks at the file, for ever.
    pub async fn follow(self) {
        let mut watched = Watched::new(&self.url_file);
        let mut known: Option<String> = None;
        let mut is_due = false;
        let mut looks = interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // Absent or unreadable: whoever connects is told so.
            if let Ok(Look::Text(text)) = watched.look()
                && known.as_ref() != Some(&text)
            {
                // What was connected before the first look is by the same, or told apart by nobody.
                is_due = known.is_some();
                known = Some(text);
            }
            if is_due {
                match self.reach.open(&self.home).await {
                    Ok(_) => {
                        is_due = false;
                        self.connect_anew();
                    }
                    Err(problem) => {
                        tracing::debug!(%problem, "the other URL of Redis does not work yet: connections stay");
                    }
                }
            }
        }
    }

    fn connect_anew(&self) {
        tracing::info!("Redis has another URL: connections are made anew");
        self.pool.connect_anew();
        self.pins.connect_anew();
        self.near.connect_anew();
    }
}
