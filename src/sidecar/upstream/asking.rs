//! Asks whoever is at an address whether it is a sidecar of this service.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{
    Request, StatusCode,
    header::{CONNECTION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::identity::{Card, Key, Question};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longer than any that is right; the head may be as long as hyper takes it at the least.
const LONGEST: usize = 1024;
const HEAD: usize = 8192;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is, and its application has this port.
    Proven {
        /// The port of its application.
        port: u16,
    },
    /// It is, and its pod is on its way out.
    Leaving,
    /// It is not, or cannot prove it.
    Refused(String),
    /// There was no answer.
    Silent(String),
}

/// Asks, on a connection of its own: whoever is there now has to answer.
pub(super) async fn ask(address: IpAddr, port: u16, keys: &[Key]) -> Reply {
    let question = Question::to(address, rand::random());
    match timeout(PATIENCE, card((address, port).into(), &question)).await {
        Err(_) => Reply::Silent(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(reply)) => reply,
        Ok(Ok(card)) if !keys.iter().any(|key| card.proves(&question, key)) => {
            Reply::Refused("it has not the token".to_owned())
        }
        Ok(Ok(card)) if card.is_draining() => Reply::Leaving,
        Ok(Ok(card)) => Reply::Proven { port: card.port() },
    }
}

async fn card(address: SocketAddr, question: &Question) -> Result<Card, Reply> {
    let silent = |error: &dyn std::error::Error| Reply::Silent(error.to_string());
    let request = Request::get(format!("/peer?{}", question.query()))
        .header(HOST, address.to_string())
        .header(USER_AGENT, "cachedservice-sidecar")
        .header(CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| silent(&error))?;
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Reply::Refused(error.to_string()),
        _ => silent(&error),
    })?;
    let made = http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await;
    let (mut connection, driver) = made.map_err(|error| silent(&error))?;
    let answer = async {
        let answer = connection.send_request(request).await.map_err(|error| silent(&error))?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(Reply::Refused(format!("it says {status}")));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        Ok(body.map_err(|error| Reply::Refused(error.to_string()))?.to_bytes())
    };
    tokio::pin!(answer);
    let body = tokio::select! {
        answer = &mut answer => answer,
        // It ends with the connection, and is there then.
        _ = driver => answer.await,
    }?;
    serde_json::from_slice(&body).map_err(|_| Reply::Refused("it says something else".to_owned()))
}
