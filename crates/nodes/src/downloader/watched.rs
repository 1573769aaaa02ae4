//! Which of the sources a check server speaks of: it may call them by other names than the user.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use super::link::Link;
use super::roster::{Control, Liveness};
use crate::http::Url;
use crate::http::dial::resolve;

/// What a check server said of each server, and where the sources are.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    said: BTreeMap<Url, Liveness>,
    /// In the order of the sources.
    addresses: Vec<Vec<SocketAddr>>,
}

/// More servers than this are not remembered: a check server may be anybody.
const MOST: usize = 4096;

impl Watched {
    /// The sources that this is about.
    pub(crate) fn hear(&mut self, said: &Liveness, links: &[Arc<Link>]) -> Vec<usize> {
        if self.said.len() < MOST || self.said.contains_key(&said.url) {
            self.said.insert(said.url.clone(), said.clone());
        }
        (0..links.len()).filter(|index| self.is_about(said, *index, links)).collect()
    }

    /// The addresses of a source are known. Returns what was said of it before.
    pub(crate) fn resolved(&mut self, index: usize, found: Vec<SocketAddr>, links: &[Arc<Link>]) -> Option<bool> {
        if self.addresses.len() <= index {
            self.addresses.resize(index + 1, Vec::new());
        }
        self.addresses[index] = found.into_iter().map(canonical).collect();
        let known = self.said.values().find(|said| self.is_about(said, index, links));
        known.map(|said| said.alive)
    }

    fn is_about(&self, said: &Liveness, index: usize, links: &[Arc<Link>]) -> bool {
        let by_name = links.get(index).is_some_and(|link| link.url.same_origin(&said.url));
        let by_address =
            || said.peer.is_some_and(|peer| self.addresses.get(index).is_some_and(|at| at.contains(&canonical(peer))));
        by_name || by_address()
    }
}

/// Looks the addresses of a source up, and tells them.
pub(crate) async fn look_up(index: usize, url: Url, tell: Sender<Control>) {
    match resolve(&url).await {
        Ok(found) => _ = tell.send(Control::Resolved(index, found)).await,
        Err(error) => tracing::debug!(%url, %error, "no address"),
    }
}

/// IPv4 is IPv4, also where a socket of both families shows it as IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls::Trust;

    #[test]
    fn a_server_is_recognised_by_name_and_by_address() {
        let url = |text: &str| text.parse::<Url>().unwrap();
        let (remarks, _) = tokio::sync::mpsc::channel(1);
        let trust = Trust::new(None).unwrap();
        let link = |text: &str| Arc::new(Link::new(url(text), String::new(), trust.clone(), remarks.clone()));
        let links = [link("http://server-1/movie"), link("http://10.0.0.3/"), link("http://10.0.0.3:81/")];
        let said = |name: &str, peer: Option<&str>, alive| Liveness {
            url: url(name),
            peer: peer.map(|peer| peer.parse().unwrap()),
            alive,
        };
        let mut watched = Watched::default();
        assert_eq!(watched.hear(&said("http://SERVER-1/", None, true), &links), [0]);
        assert_eq!(watched.hear(&said("http://server-2/", Some("[::ffff:10.0.0.3]:80"), false), &links), [0; 0]);
        // Said before the addresses were known: it counts all the same.
        assert_eq!(watched.resolved(1, vec!["10.0.0.3:80".parse().unwrap()], &links), Some(false));
        assert_eq!(watched.resolved(2, vec!["10.0.0.3:81".parse().unwrap()], &links), None);
        assert_eq!(watched.hear(&said("http://server-2/", Some("10.0.0.3:80"), true), &links), [1]);
    }
}
