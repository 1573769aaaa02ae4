//! Asking the sources what their file is called, before there is a place for it.
//!
//! Only for a target that is a folder. A source advertises a name by `Content-Disposition`, else by its Metalink, else by
//! the last segment of the URL that redirects led to. Of those that answer soon, the first on the command line decides.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use machine::{Span, Time};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout_at;

use super::ask::{Found, locate, read};
use super::link::{Lane, Link};
use super::name;
use super::roster::{Control, Roster};
use super::trouble::Trouble;
use crate::http::url::decode;
use crate::{clock, metalink};

/// Between two questions to a source that does not answer.
const AGAIN: Duration = Duration::from_millis(150);

/// The first question is given up after this long, each later one after twice as long as the one before.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The longest patience.
const PATIENCE_MOST: Duration = Duration::from_secs(12);

/// How long a Metalink may take, which may have a better name.
const METALINK_PATIENCE: Duration = Duration::from_millis(500);

/// After the first answer the sources before it on the command line are waited for this long, unless they failed already.
const OTHERS: Span = Span::from_secs(1);

/// After an answer without a usable name, others are waited for this long.
const OTHERS_WITH_A_NAME: Span = Span::from_secs(2);

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// A harmless name.
    As(String),
    /// Whoever answered has none.
    Nothing,
    /// The program shall end.
    Interrupted,
}

enum Answer {
    Name(Option<String>),
    Trouble(String),
}

/// Asks all sources, as they turn up, until one has a name.
pub(crate) async fn find(roster: &mut Roster) -> Named {
    let (tell, mut answers) = unbounded_channel();
    let mut asking = tokio::task::JoinSet::new();
    let mut heard: Vec<Option<Option<String>>> = Vec::new();
    let mut troubles: Vec<Option<String>> = Vec::new();
    let mut deadline = Time::MAX;
    loop {
        for index in heard.len()..roster.links.len() {
            asking.spawn(ask(index, Arc::clone(&roster.links[index]), tell.clone()));
            heard.push(None);
            troubles.push(None);
        }
        // Everybody before the first name has answered or failed, or the others were waited for.
        let first = heard.iter().position(|answer| matches!(answer, Some(Some(_))));
        let is_out = |index: usize| heard[index].is_some() || troubles[index].is_some();
        let is_decided = first.is_some_and(|first| (0..first).all(is_out));
        if is_decided || clock::now() >= deadline {
            break;
        }
        let soon = clock::instant(deadline);
        tokio::select! {
            biased;
            () = roster.signals.next() => return Named::Interrupted,
            Some(control) = roster.controls.recv() => match control {
                Control::Source(url, name) => roster.add(url, name),
                Control::Check(url) => roster.check = Some(url),
                Control::Remark(line) => eprintln!("{line}"),
                _ => {}
            },
            Some((index, answer)) = answers.recv() => match answer {
                Answer::Name(name) => {
                    let patience = if name.is_some() { OTHERS } else { OTHERS_WITH_A_NAME };
                    deadline = deadline.min(clock::now() + patience);
                    heard[index] = Some(name);
                }
                Answer::Trouble(line) if troubles[index].as_ref() != Some(&line) => {
                    eprintln!("{}: {line}", roster.links[index].name);
                    troubles[index] = Some(line);
                }
                Answer::Trouble(_) => {}
            },
            () = tokio::time::sleep_until(soon) => {}
        }
    }
    let mut names = heard.into_iter().enumerate().filter_map(|(index, name)| Some((index, name??)));
    let Some((_, chosen)) = names.next() else { return Named::Nothing };
    for (index, other) in names.filter(|(_, other)| *other != chosen) {
        eprintln!("{}: calls the file `{other}`; it becomes `{chosen}`", roster.links[index].name);
    }
    Named::As(chosen)
}

/// Asks one source until it answers.
async fn ask(index: usize, link: Arc<Link>, tell: UnboundedSender<(usize, Answer)>) {
    let mut patience = PATIENCE;
    loop {
        let deadline = clock::instant(clock::now()) + patience;
        let found = timeout_at(deadline, locate(&link, None)).await;
        let trouble = match found {
            Ok(Ok(found)) => {
                let _ = tell.send((index, Answer::Name(advertised(&link, &found).await)));
                return;
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => Trouble::Dial(std::io::ErrorKind::TimedOut.into()),
        };
        link.hang_up();
        patience = (patience * 2).min(PATIENCE_MOST);
        if tell.send((index, Answer::Trouble(trouble.line()))).is_err() {
            return;
        }
        tokio::time::sleep_until(clock::instant(clock::now()) + AGAIN).await;
    }
}

/// What a source calls its file.
async fn advertised(link: &Link, found: &Found) -> Option<String> {
    if let Some(name) = found.disposition.as_deref().and_then(name::of_disposition) {
        return Some(name);
    }
    let segment = found.url.file_name();
    let deadline = clock::instant(clock::now()) + METALINK_PATIENCE;
    let document = timeout_at(deadline, document(link, found)).await.ok().and_then(Result::ok).flatten();
    let plain = String::from_utf8_lossy(&decode(segment)).into_owned();
    let described = document.and_then(|document| metalink::file_name(&document, &plain));
    described.as_deref().and_then(name::safe).or_else(|| name::of_segment(segment))
}

async fn document(link: &Link, found: &Found) -> Result<Option<bytes::Bytes>, Trouble> {
    let answer = link.get(&found.hashes_at, &[], Lane::Own).await?;
    let is_there = answer.head.status() == StatusCode::OK;
    Ok(read(answer, metalink::LONGEST).await?.filter(|_| is_there))
}
