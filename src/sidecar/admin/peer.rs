//! Proves to the other sidecars that this one is of the same service.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};

use super::{Admin, Refusal, json_of};
use crate::sidecar::upstream::{
    Origin,
    identity::{Card, Question},
    keys::Known,
};

/// Says at which port the application is and whether the pod is on its way out, with a proof that only
/// who has the token can make. Anybody may ask: what is told is no secret.
pub(super) async fn peer(
    State(admin): State<Arc<Admin>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let question = Question::parse(&query.unwrap_or_default()).map_err(Refusal::Wrong)?;
    let origin = admin.front.origin();
    if !origin.is_at(question.address()) {
        // Whoever asks means another pod, which was there before.
        return Err(Refusal::Wrong(format!("{} is not an address of this pod", question.address())));
    }
    let Known { keys, trouble } = admin.token.keys();
    let mut keys = keys.iter();
    let key = keys.next().ok_or_else(|| Refusal::Failed(trouble.unwrap_or_default()))?;
    let mut card = Card::answering(&question, key, origin.own_port(), admin.front.is_draining());
    if let Some(former) = keys.next() {
        card = card.also_by(&question, former);
    }
    let card = serde_json::to_value(card).map_err(|error| Refusal::Failed(error.to_string()))?;
    Ok(json_of(StatusCode::OK, &card))
}

/// What came of the last look for others; null where none is asked.
pub(super) fn seen(origin: &Origin) -> Value {
    origin.sight().map_or(Value::Null, |sight| {
        json!({
            "named": sight.named,
            "proven": sight.proven,
            "leaving": sight.leaving,
            "trouble": sight.trouble,
        })
    })
}
