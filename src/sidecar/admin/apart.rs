//! The admin port on a thread of its own.

use std::{io, sync::Arc, thread};

use tokio::{net::TcpListener, runtime::Builder};

use super::{Admin, serve};
use crate::sidecar::heartbeat::Heartbeat;

/// Serves the admin port until the process ends, on a thread and a runtime of its own: where a burst keeps those
/// that serve requests from all else for a moment, the kubelet would take the pod for dead, and send its burst to
/// the next. So that one which hangs is seen still, a task on the runtime of the caller beats, and the probes look
/// whether it has.
///
/// # Errors
/// When there is no further thread, or the listener is of no use.
pub fn serve_apart(listener: TcpListener, admin: Arc<Admin>) -> io::Result<()> {
    // It belongs to the runtime that has made it, which tells of nothing new while it is busy.
    let listener = listener.into_std()?;
    let heartbeat = Arc::<Heartbeat>::default();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let beating = heartbeat.clone();
    let serving = async move {
        serve(TcpListener::from_std(listener)?, admin, heartbeat).await;
        io::Result::Ok(())
    };
    thread::Builder::new().name("admin".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(serving) {
            tracing::error!(%error, "the admin port is not served any more");
        }
    })?;
    tokio::spawn(async move { beating.beat().await });
    Ok(())
}
