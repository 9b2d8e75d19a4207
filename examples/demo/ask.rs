//! One request, and the whole answer.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, Uri, uri::Authority};
use serde_json::{Map, Value, json};

use crate::target::Target;

/// What `demo ask` can be told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to ask for, as `http://HOST[:PORT]/PATH`.
    url: Uri,
    /// Whom to ask, as HOST:PORT, if not the host of the URL.
    #[arg(long)]
    at: Option<Authority>,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// A field of the request, as NAME=VALUE; may be given several times.
    #[arg(long, value_parser = field)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// What to send along.
    #[arg(long, default_value = "")]
    body: String,
    /// How long to wait for the answer, in milliseconds.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    within: u32,
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let name = name.parse().map_err(|_| format!("{name} is no name of a field"))?;
    Ok((name, value.parse().map_err(|_| format!("{value:?} is no value of a field"))?))
}

/// Prints the answer as one line of JSON: status, fields, body.
pub(crate) async fn run(options: Options) -> Result<(), String> {
    let target = match &options.at {
        Some(at) => Target::at(options.url, at),
        None => Target::from_url(options.url),
    }?;
    let mut request = target.request_with(options.body.into())?;
    *request.method_mut() = options.method;
    for (name, value) in options.header {
        request.headers_mut().append(name, value);
    }
    let limit = Duration::from_millis(options.within.into());
    let (head, body) = target.exchange(request, limit).await?;
    let mut headers = Map::new();
    for name in head.headers.keys() {
        let lines: Vec<_> =
            head.headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        headers.insert(name.to_string(), Value::String(lines.join(", ")));
    }
    let body = String::from_utf8_lossy(&body);
    println!("{}", json!({ "status": head.status.as_u16(), "headers": headers, "body": body }));
    Ok(())
}
