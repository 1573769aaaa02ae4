//! A case as a topology: receivers, and a sender that starts when they listen.

use std::path::Path;

use crate::case::{Case, FRAME, MTU, Program};
use crate::shared::usage;
use crate::shared::yaml::{put, words};
use crate::witness;

/// The name of the file that is transferred.
pub(crate) const FILE: &str = "movie";

/// The node of the sender.
pub(crate) const SENDER: &str = "sender";

/// The UDP port of our receivers.
const PORT: &str = "7735";

/// The port and the group of UFTP's announcements, as it has them by itself.
const UFTP: (&str, &str) = ("1044", "230.4.4.1");

/// What the programs of a topology need to be told.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    /// The testbed.
    pub(crate) testbed: &'a Path,
    /// This program.
    pub(crate) bench: &'a Path,
    /// The file to send.
    pub(crate) file: &'a Path,
    /// Further options of our fast sender.
    pub(crate) fast: &'a [String],
    /// Further options of UFTP's sender.
    pub(crate) uftp: &'a [String],
    /// Further options of UFTP's receivers.
    pub(crate) uftpd: &'a [String],
}

/// The topology's text. `round` seeds it, so that each round meets losses of its own, and all programs the same.
pub(crate) fn topology(case: &Case, program: Program, paths: &Paths<'_>, round: u32) -> String {
    let file = paths.file;
    let mut text = format!(
        "name: {}\nseed: {}\ntimeout: 300s\nfiles:\n  {FILE}: {{ path: {file:?} }}\nnodes:\n",
        case.name,
        round + 1
    );
    let names: Vec<String> = (1..=case.receivers).map(|index| format!("receiver-{index}")).collect();
    let down = match case.loss {
        0 => String::new(),
        loss => format!(", link: {{ down: {{ loss: {loss}% }} }}"),
    };
    for (index, name) in names.iter().enumerate() {
        let (port, group) = if matches!(program, Program::Uftp { .. }) { UFTP } else { (PORT, "-") };
        let mut all = vec![
            paths.bench.display().to_string(),
            witness::WORD.to_owned(),
            FILE.to_owned(),
            case.length.to_string(),
            port.to_owned(),
            group.to_owned(),
        ];
        all.extend(receiver(case, program, index, paths));
        let all = words(&all);
        put(
            &mut text,
            format_args!("  {name}: {{ run: {all}, ready: {{ file: {} }}, out: {FILE}{down} }}", witness::READY),
        );
    }
    let mut all = vec![paths.bench.display().to_string(), usage::WORD.to_owned()];
    all.extend(sender(program, &names, paths));
    let up = case.up.map_or(String::new(), |rate| format!(", link: {{ up: {{ rate: {rate}Mbit }} }}"));
    let (all, after) = (words(&all), names.join(", "));
    put(&mut text, format_args!("  {SENDER}: {{ run: {all}, after: [{after}]{up} }}"));
    put(&mut text, format_args!("expect:\n  {SENDER}: {{ exit: 0 }}"));
    for name in &names {
        put(&mut text, format_args!("  {name}: {{ exit: 0, file: {FILE} }}"));
    }
    text
}

fn receiver(case: &Case, program: Program, index: usize, paths: &Paths<'_>) -> Vec<String> {
    if matches!(program, Program::Uftp { .. }) {
        // Buffers as large as it allows and the system gives. Files are renamed when they are complete, as ours are. Larger
        // write caches (`-c`) than its own megabyte made it slower here, quieter logs (`-x`) made no difference.
        let script =
            r#"mkdir temp && id=$1 && shift && exec uftpd -d -q -U "$id" -B 104857600 -D "$PWD" -T "$PWD/temp" "$@""#;
        let mut words = ["sh", "-c", script, "uftpd"].map(str::to_owned).to_vec();
        words.push(uftp_id(index));
        words.extend_from_slice(paths.uftpd);
        return words;
    }
    let p = f64::from(case.p) / 100.0;
    let testbed = paths.testbed.display().to_string();
    [testbed.as_str(), "role", "p2mp-receiver", PORT, FILE, &p.to_string(), "--once"].map(str::to_owned).to_vec()
}

fn sender(program: Program, receivers: &[String], paths: &Paths<'_>) -> Vec<String> {
    let file = paths.file.display().to_string();
    if let Program::Uftp { rate } = program {
        // Named receivers (`-H`), so that the transfer begins when all have registered; it waits its whole time otherwise.
        // Blocks as large as the MTU takes with its headers of up to 60 bytes, and a first guess of the round trip that
        // costs little: with the default of half a second the announcement alone takes longer than our whole transfer.
        let ids: Vec<String> = (0..receivers.len()).map(uftp_id).collect();
        let (block, rate, ids) = ((MTU - 60).to_string(), rate.to_string(), ids.join(","));
        let options = ["uftp", "-U", "0x000000ff", "-B", "104857600", "-r", "0.1:0.01:1", "-b", &block, "-R", &rate];
        let mut words = options.map(str::to_owned).to_vec();
        words.extend_from_slice(paths.uftp);
        words.extend(["-H", &ids, &file].map(str::to_owned));
        return words;
    }
    let testbed = paths.testbed.display().to_string();
    let mut words = [testbed.as_str(), "role", "p2mp-sender"].map(str::to_owned).to_vec();
    words.extend_from_slice(receivers);
    words.extend([PORT.to_owned(), file]);
    match program {
        Program::Fast => {
            words.extend([FRAME.payload.to_string(), "--mode".to_owned(), "fast".to_owned()]);
            words.extend_from_slice(paths.fast);
        }
        Program::Adaptive => words.push("1000".to_owned()),
        Program::Fixed => words.extend(["1000", "--timeout-mode", "fixed", "--timeout", "1s"].map(str::to_owned)),
        Program::Uftp { .. } => unreachable!("it has been dealt with"),
    }
    words
}

fn uftp_id(index: usize) -> String {
    format!("0x{:08x}", index + 1)
}
