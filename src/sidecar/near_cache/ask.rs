//! What is asked apart from the commands of a session, on the connections that clients share.

use std::{future::poll_fn, sync::Arc};

use bytes::Bytes;

use super::{
    connect::{Place, Refused},
    line::{Before, Line, Part, Untaken},
    near::Spot,
    outlet::Outlet,
    reach::Reach,
    server::Relay,
};
use crate::sidecar::resp::request::Command;

/// A line on which something may be asked.
async fn line(relay: &Relay, place: &Place) -> Result<Arc<Line>, Refused> {
    match relay.pool().line(place).await {
        Ok(line) if line.is_stuck() && relay.reach().is_off() => Err(Reach::off()),
        found => found,
    }
}

/// Sends commands for a client, or for nobody.
async fn submit(
    relay: &Relay,
    place: &Place,
    commands: &[u8],
    outlet: &Arc<Outlet>,
    parts: &mut Vec<Part>,
) -> Result<(), Refused> {
    loop {
        let line = line(relay, place).await?;
        match line.submit(commands, outlet, parts) {
            Ok(()) => return Ok(()),
            Err(Untaken::Full) => poll_fn(|cx| line.poll_room(cx)).await,
            Err(Untaken::Lost) => {}
        }
    }
}

/// Asks what has a place in the order of a client's replies already.
pub(super) async fn pass(
    relay: &Relay,
    (place, spot): (&Place, &Spot),
    command: &Command,
    outlet: &Arc<Outlet>,
    part: Part,
) {
    let number = part.number;
    let mut parts = vec![part];
    if let Err(refused) = submit(relay, place, command.raw(), outlet, &mut parts).await {
        if let Some(number) = number {
            outlet.deliver_own(number, &relay.unasked(spot, command, &refused), true, false);
        }
        for part in parts {
            part.before.unasked();
        }
    }
}

/// The replies to so many commands, one after the other.
///
/// # Errors
/// When Redis is not asked, or the replies are more than is kept for a client.
pub(super) async fn ask(
    relay: &Relay,
    place: &Place,
    commands: &[u8],
    count: usize,
) -> Result<Bytes, Refused> {
    let outlet = relay.kept();
    let mut parts = vec![Part { count, number: None, before: Before::Nothing, instead: None }];
    submit(relay, place, commands, &outlet, &mut parts).await?;
    let replies = poll_fn(|cx| outlet.poll_kept(cx)).await;
    replies.map_err(|_| Refused::Unreachable("the reply is too large".into()))
}
