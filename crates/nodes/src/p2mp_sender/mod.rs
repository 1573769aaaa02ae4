//! `p2mp-sender`: sends one file to several receivers at once.
//!
//! * `words`: the command line of the assignment; `discovery`: receivers that share a name.
//! * `classic`: the published stop-and-wait over a socket; `source`: the file, segment by segment.
//! * `sent_file`: what both modes open and read; `reporter`: what is told, to whom.
//! * [`fast`]: the fast mode.

mod classic;
mod discovery;
pub mod fast;
mod reporter;
mod sent_file;
mod source;
mod words;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;

use machine::{Rate, Span};
use p2mp::classic::{self as stop_and_wait, Dialect, SenderConfig, Timeout};

use self::classic::{End, Transfer};
use self::reporter::Reporter;
pub use self::sent_file::SentFileError;
use self::source::Source;
pub use self::source::SourceError;
use self::words::Task;
pub use self::words::WordsError;
use crate::events::EventSink;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::udp::Socket;

/// That of the published assignment.
const DEFAULT_TIMEOUT: Span = Span::from_secs(1);

/// Sends FILE to every RECEIVER at once, segments of at most MSS bytes
#[derive(Debug, clap::Parser)]
#[command(
    name = "p2mp-sender",
    version,
    override_usage = "p2mp-sender [OPTIONS] <RECEIVER>... <PORT> <FILE> <MSS>",
    after_long_help = "Prints `Timeout, sequence number = Y` for every timer that expires; the summary goes to stderr."
)]
pub struct Args {
    /// RECEIVER: a name or an address, or `name:port` for one that listens elsewhere; PORT: where they listen, 7735 is well
    /// known; FILE: what is sent; MSS: the most data in a segment, 1 to 65499 bytes
    #[arg(value_name = "RECEIVER... PORT FILE MSS", required = true, num_args = 1.., allow_negative_numbers = true)]
    words: Vec<OsString>,
    /// classic: the published stop-and-wait, segment by segment; fast: a paced stream with parity for what is lost, where
    /// MSS is the most data that a datagram may carry
    #[arg(long, value_enum, default_value_t = Mode::Classic)]
    mode: Mode,
    /// How long to wait for an acknowledgement before a segment is sent again, such as 20ms; a second unless given
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Span>,
    /// adaptive: as each receiver's round trips suggest (the default without --timeout); fixed: --timeout for each receiver;
    /// shared: --timeout for all receivers of a segment together
    #[arg(long, value_enum)]
    timeout_mode: Option<TimeoutMode>,
    /// Drop a receiver that has not acknowledged a segment for so long, and go on with the others
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    give_up: Span,
    /// A name stands for all addresses that it has, as that of a service with several containers does: send when the same
    /// ones have been there for two seconds
    #[arg(long)]
    discover: bool,
    /// With --discover: send as soon as there are so many, and not before; 0: as without it. Fewer after --give-up are an
    /// error
    #[arg(long, value_name = "N", requires = "discover", default_value = "0", hide_default_value = true)]
    expect: usize,
    /// The wire format: published, or text for receivers that speak in ASCII digits
    #[arg(long, value_enum, default_value_t = DialectWord::Published)]
    dialect: DialectWord,
    /// What to print on stdout: the lines of the assignment, or one JSON object a line as on TESTBED_EVENTS_FD
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    #[command(flatten)]
    fast: FastArgs,
}

/// What the fast mode can be told.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Fast mode")]
struct FastArgs {
    /// Send at this rate on the wire, such as 50Mbit, whatever happens; without it the rate follows what receivers get
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// The multicast group to send to if that reaches every receiver; 239.255.77.35 or ff15::7735 unless given
    #[arg(long, value_name = "ADDR", value_parser = group)]
    group: Option<IpAddr>,
    /// Send to each receiver by itself, without trying multicast
    #[arg(long, conflicts_with = "group")]
    unicast: bool,
    /// How many networks multicast may cross
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u8).range(1..))]
    ttl: u8,
    /// Send multicast by this interface, by its name or an address of it; else by that which leads to the first receiver
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Send this file as well; receivers then name a folder
    #[arg(long, value_name = "FILE")]
    also: Vec<PathBuf>,
}

/// How a file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Stop-and-wait.
    Classic,
    /// A paced stream with parity.
    Fast,
}

/// The group that is tried unless another is given: of those that a site may use as it likes (RFC 2365, RFC 4291).
const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 255, 77, 35));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0x7735));

/// How the timeout is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TimeoutMode {
    /// Estimated from round trips (RFC 6298).
    Adaptive,
    /// Given, for each receiver.
    Fixed,
    /// Given, for a segment's whole round.
    Shared,
}

/// How segments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DialectWord {
    /// As the assignment says.
    Published,
    /// In ASCII digits.
    Text,
}

/// What is printed on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The lines of the assignment.
    Human,
    /// One JSON object a line.
    Json,
}

/// Why a file could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The words of the command line.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// Options that exclude each other.
    #[error("an adaptive timeout cannot be given; leave --timeout or --timeout-mode adaptive out")]
    AdaptiveTimeout,
    /// Longer than the other program of this dialect reads.
    #[error("segments of {mss} bytes are too long for the text dialect, which takes {} at most", LONGEST_TEXT)]
    TooLongForText {
        /// What was asked for.
        mss: u32,
    },
    /// The file.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The file does not fit the protocol.
    #[error(transparent)]
    Machine(#[from] stop_and_wait::sender::SenderError),
    /// The kernel says no.
    #[error("cannot use a UDP socket")]
    Socket(#[source] io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals")]
    Signals(#[source] io::Error),
    /// An option of the other mode.
    #[error("{option} belongs to --mode {mode}")]
    OtherMode {
        /// Which.
        option: &'static str,
        /// Where it belongs.
        mode: &'static str,
    },
    /// The fast mode.
    #[error(transparent)]
    Fast(#[from] fast::SendError),
}

const LONGEST_TEXT: usize = stop_and_wait::text::LONGEST - stop_and_wait::text::HEADER;

impl SenderError {
    /// Whether something else must be asked for; nothing was sent.
    fn is_usage(&self) -> bool {
        match self {
            SenderError::Words(error) => !matches!(
                error,
                WordsError::Unknown { .. } | WordsError::NoAddress { .. } | WordsError::TooFewFound { .. }
            ),
            SenderError::Source(error) => matches!(error, SourceError::Separator { .. }),
            SenderError::AdaptiveTimeout
            | SenderError::TooLongForText { .. }
            | SenderError::Machine(_)
            | SenderError::OtherMode { .. } => true,
            SenderError::Fast(error) => error.is_usage(),
            SenderError::Socket(_) | SenderError::Signals(_) => false,
        }
    }
}

/// Sends until every receiver has the file or is given up.
pub(crate) fn run(args: Args, events: EventSink) -> Result<Exit, SenderError> {
    let ended = args.ensure_one_mode().and_then(|()| match args.mode {
        Mode::Classic => send(&args, events),
        Mode::Fast => send_fast(&args, events),
    });
    match ended {
        Err(error) if error.is_usage() => {
            eprintln!("error: {error}");
            Ok(Exit::Usage)
        }
        ended => ended,
    }
}

fn send(args: &Args, events: EventSink) -> Result<Exit, SenderError> {
    let mut task = Task::read(&args.words)?;
    let timeout = args.timeout()?;
    let dialect = args.dialect(&task)?;
    let source = Source::open(&task.file)?;
    let config = SenderConfig {
        length: source.length(),
        mss: task.mss,
        receivers: task.receivers.len(),
        timeout,
        give_up: args.give_up,
    };
    config.check()?;
    if dialect == Dialect::Text {
        source.ensure_text_can_carry(task.mss)?;
    }
    let socket = Socket::any(0).map_err(SenderError::Socket)?;
    // Until signals are caught they end the program while a resolver hangs.
    let addresses = args.addresses(&mut task, |address| socket.can_reach(address.ip()))?;
    let signals = Signals::catch().map_err(SenderError::Signals)?;
    let mut reporter = Reporter::new(sinks(events, args.format), args.format, source.length());
    reporter.ready();
    let transfer = Transfer {
        socket: &socket,
        signals: &signals,
        source: &source,
        dialect,
        names: &task.receivers,
        addresses: &addresses,
        reporter: &mut reporter,
    };
    match transfer.run(config)? {
        End::Finished(summary) => {
            reporter.finished(&summary, &task.receivers);
            Ok(if summary.is_complete() { Exit::Done } else { Exit::Failed })
        }
        End::Interrupted(bytes) => {
            reporter.interrupted(bytes);
            Ok(Exit::Interrupted)
        }
    }
}

fn send_fast(args: &Args, events: EventSink) -> Result<Exit, SenderError> {
    let mut task = Task::read(&args.words)?;
    let addresses = args.addresses(&mut task, |_| true)?;
    let FastArgs { rate, group, unicast, ttl, interface, also } = &args.fast;
    let usual = if addresses[0].is_ipv4() { GROUP_V4 } else { GROUP_V6 };
    let options = fast::Options {
        receivers: task.receivers.into_iter().zip(addresses).collect(),
        files: std::iter::once(&task.file).chain(also).cloned().collect(),
        most_payload: task.mss as usize,
        rate: *rate,
        group: (!unicast).then(|| group.unwrap_or(usual)),
        hops: *ttl,
        interface: interface.clone(),
        give_up: args.give_up,
        shows: args.format == Format::Human,
        sinks: sinks(events, args.format),
    };
    Ok(fast::run(options)?)
}

/// Where reports go: to the testbed, and with `--format json` to stdout as well.
fn sinks(events: EventSink, format: Format) -> Vec<EventSink> {
    let stdout = (format == Format::Json).then(|| io::stdout().as_fd().try_clone_to_owned().ok()).flatten();
    let stdout = stdout.map(|stdout| EventSink::new(File::from(stdout)));
    std::iter::once(events).chain(stdout).filter(EventSink::is_connected).collect()
}

impl Args {
    /// Where the task's receivers are, which discovery finds out.
    fn addresses(&self, task: &mut Task, reaches: impl Fn(&SocketAddr) -> bool) -> Result<Vec<SocketAddr>, WordsError> {
        if self.discover {
            task.discover((self.expect > 0).then_some(self.expect), self.give_up, reaches)
        } else {
            task.addresses(reaches)
        }
    }

    /// An option that would do nothing is a mistake.
    fn ensure_one_mode(&self) -> Result<(), SenderError> {
        let FastArgs { rate, group, unicast, ttl: _, interface, also } = &self.fast;
        let (mode, options) = match self.mode {
            Mode::Classic => (
                "fast",
                vec![
                    ("--rate", rate.is_some()),
                    ("--group", group.is_some()),
                    ("--unicast", *unicast),
                    ("--interface", interface.is_some()),
                    ("--also", !also.is_empty()),
                ],
            ),
            Mode::Fast => (
                "classic",
                vec![
                    ("--timeout", self.timeout.is_some()),
                    ("--timeout-mode", self.timeout_mode.is_some()),
                    ("--dialect", self.dialect != DialectWord::Published),
                ],
            ),
        };
        match options.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(SenderError::OtherMode { option, mode }),
            None => Ok(()),
        }
    }

    fn timeout(&self) -> Result<Timeout, SenderError> {
        let given = self.timeout.unwrap_or(DEFAULT_TIMEOUT);
        match (self.timeout_mode, self.timeout) {
            (None, None) | (Some(TimeoutMode::Adaptive), None) => Ok(Timeout::Adaptive),
            (Some(TimeoutMode::Adaptive), Some(_)) => Err(SenderError::AdaptiveTimeout),
            (None | Some(TimeoutMode::Fixed), _) => Ok(Timeout::Fixed(given)),
            (Some(TimeoutMode::Shared), _) => Ok(Timeout::Shared(given)),
        }
    }

    fn dialect(&self, task: &Task) -> Result<Dialect, SenderError> {
        match self.dialect {
            DialectWord::Published => Ok(Dialect::Published),
            DialectWord::Text if task.mss as usize > LONGEST_TEXT => Err(SenderError::TooLongForText { mss: task.mss }),
            DialectWord::Text => Ok(Dialect::Text),
        }
    }
}

/// A length of time that is not none.
fn time(text: &str) -> Result<Span, String> {
    match text.parse::<Span>() {
        Ok(span) if span.is_zero() => Err(format!("`{text}` is over at once")),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    match text.parse::<Rate>() {
        Ok(rate) if rate.as_bytes_per_sec() == 0 => Err(format!("`{text}` would never send a byte")),
        Ok(rate) => Ok(rate),
        Err(error) => Err(error.to_string()),
    }
}

fn group(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_multicast() => Ok(address),
        _ => Err(format!("`{text}` is no multicast address (224.0.0.0 to 239.255.255.255, ff00::/8)")),
    }
}
