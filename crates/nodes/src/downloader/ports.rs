//! Which of some ports is a file server and which the check server.

use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::check::is_check_server;
use super::roster::Control;
use crate::clock;
use crate::http::Url;
use crate::http::tls::Trust;

/// Between two questions to a port that does not answer.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks what is at `url` until something answers, and hands it on. `number` is its place on the command line.
pub(crate) async fn find_out(url: Url, number: usize, trust: Trust, tell: Sender<Control>) {
    let found = loop {
        match is_check_server(&url, &trust).await {
            Ok(true) => break Control::Check(url),
            Ok(false) => break Control::Source(url, format!("Server {number}")),
            Err(trouble) => tracing::debug!(%url, "{}", trouble.line()),
        }
        tokio::time::sleep_until(clock::instant(clock::now()) + AGAIN).await;
    };
    // Closed only when the download is over.
    let _ = tell.send(found).await;
}
