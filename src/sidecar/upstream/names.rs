//! The addresses of a host name.

use std::{future::Future, io, net::IpAddr, pin::Pin};

/// The addresses of a host name, when they are known. None at all: there is no such name, or it has none. An
/// error: nobody knows.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// What knows the addresses of a host name.
pub trait Resolve: Send + Sync {
    /// The addresses of a host name.
    fn resolve<'a>(&'a self, host: &'a str) -> Addresses<'a>;
}

/// Where the kubelet writes how names are resolved.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// As the system resolves it: A and AAAA records of a name of the cluster.
pub struct Dns;

impl Resolve for Dns {
    fn resolve<'a>(&'a self, host: &'a str) -> Addresses<'a> {
        Box::pin(async move {
            let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
            let Some(host) = absolute(host, &text) else {
                let problem = "the search domains of this pod name no cluster; it needs dnsPolicy ClusterFirst, or with hostNetwork ClusterFirstWithHostNet";
                return Err(io::Error::other(problem));
            };
            match tokio::net::lookup_host((host, 0)).await {
                Ok(found) => Ok(found.map(|address| address.ip()).collect()),
                Err(error) if says_none(&error.to_string()) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        })
    }
}

/// The name of a Service, `NAME.NAMESPACE.svc`, in the domain of the cluster that the pod is in. As it is, it
/// might be looked for in the domains of the node, too, where anybody may answer.
fn absolute(host: &str, resolv_conf: &str) -> Option<String> {
    if host.ends_with('.') || host.parse::<IpAddr>().is_ok() {
        return Some(host.to_owned());
    }
    let (name, namespace) = host.split_once('.')?;
    let lines = resolv_conf.lines().map(str::split_whitespace);
    // Of several the last counts (resolv.conf(5)).
    let search =
        lines.filter_map(|mut words| (words.next() == Some("search")).then_some(words)).next_back()?;
    let is_of_cluster = |domain: &str| {
        domain.strip_prefix(namespace).is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
    };
    let domain = search.map(|domain| domain.trim_end_matches('.')).find(|domain| is_of_cluster(domain))?;
    Some(format!("{name}.{domain}."))
}

/// Whether an error of the C library says that there is no such name or no address of it, and not that nobody
/// answers: EAI_NONAME and EAI_NODATA of glibc and of musl, of which Rust tells the words alone.
fn says_none(error: &str) -> bool {
    [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ]
    .iter()
    .any(|words| error.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "shop-peers.prod.svc";

    #[test]
    fn the_name_is_that_in_the_cluster_and_no_other() {
        let conf = "nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local corp.example\noptions ndots:5\n";
        assert_eq!(absolute(HOST, conf).as_deref(), Some("shop-peers.prod.svc.cluster.local."));
        let other = "search old.example\nsearch prod.svc.k8s.example. svc.k8s.example\n";
        assert_eq!(absolute(HOST, other).as_deref(), Some("shop-peers.prod.svc.k8s.example."));
        for absolute_already in ["shop.example.", "10.0.0.1", "fd00::1"] {
            assert_eq!(absolute(absolute_already, "").as_deref(), Some(absolute_already));
        }
    }

    #[test]
    fn where_no_cluster_is_named_there_is_no_name() {
        for conf in [
            "",
            "nameserver 10.0.0.2\nsearch corp.example\n",
            "search other.svc.cluster.local\n",
            "search prod.svc\n",
            "search prod.svc.\n",
            "search prod.svcs.example\n",
            "domain prod.svc.cluster.local\n",
        ] {
            assert_eq!(absolute(HOST, conf), None, "{conf}");
        }
        assert_eq!(absolute("localhost", "search svc.cluster.local"), None);
    }

    #[test]
    fn no_such_name_is_not_nobody_answers() {
        let told = |words: &str| says_none(&format!("failed to lookup address information: {words}"));
        assert!(told("Name or service not known") && told("No address associated with hostname"));
        assert!(!told("Temporary failure in name resolution") && !told("Try again"));
        assert!(!told("Non-recoverable failure in name resolution"));
    }
}
