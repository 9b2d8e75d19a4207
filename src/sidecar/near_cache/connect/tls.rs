//! TLS towards Redis.

use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{self, ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};

use super::{Refused, lost, unreachable};

/// Speaks TLS on a connection to this host, whose certificate has to lead to one of these roots; without any, to one
/// of Mozilla's, as for the HTTP tier.
pub(super) async fn speak(
    tcp: TcpStream,
    host: &str,
    roots: Option<&RootCertStore>,
) -> Result<TlsStream<TcpStream>, Refused> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| unreachable("the host of the URL of Redis is no name for a certificate"))?;
    connector(roots)?.connect(name, tcp).await.map_err(|error| refused(host, &error))
}

fn connector(roots: Option<&RootCertStore>) -> Result<TlsConnector, Refused> {
    static OF_MOZILLA: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(roots) = roots {
        return Ok(Arc::new(config(roots.clone())?).into());
    }
    if let Some(config) = OF_MOZILLA.get() {
        return Ok(config.clone().into());
    }
    let config = Arc::new(config(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())?);
    Ok(OF_MOZILLA.get_or_init(|| config).clone().into())
}

fn config(roots: RootCertStore) -> Result<ClientConfig, Refused> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| unreachable(&format!("TLS: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Says what has to be otherwise, as far as that is known.
fn refused(host: &str, error: &std::io::Error) -> Refused {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => unreachable(&format!(
            "its certificate is not trusted ({reason}): it has to be valid now, for {host}, and issued by an authority that \
             Mozilla trusts"
        )),
        Some(error) => unreachable(&format!("no TLS with it ({error}); does it speak TLS at this port?")),
        None => lost(error),
    }
}
