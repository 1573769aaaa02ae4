//! From what a file says to what is to be built: every name looked up, every default filled in, every sense checked.

mod events;
mod expectations;
mod faults;
mod links;
mod medium;
pub(crate) mod names;
mod networks;
mod nodes;
mod order;
mod patterns;
mod routes;

use link::HalfLink;
use machine::{Seed, Size, Span};

use self::events::{Ground, resolve_events};
use self::links::{check_complete, check_half, check_link};
pub use self::medium::NetemSupport;
use self::names::{Directory, check_name, check_names};
use crate::diagnostic::Diagnostics;
use crate::findings::Findings;
use crate::plan::{File, FileSource, Interface, NodeId, Pair, Plan, Program, Ways, file_seed};
use crate::source::Source;
use crate::spec::Spec;
use crate::sweep;
use crate::yaml::Setting;

const DEFAULT_TIMEOUT: Span = Span::from_secs(300);
const MAX_TIMEOUT: Span = Span::from_secs(7 * 24 * 3600);
const MAX_FILE: Size = Size::from_mib(1 << 20);
const MAX_FILES: usize = 10_000;
const MAX_PAIRS: usize = 65_536;

/// What the caller brings beside the file.
#[derive(Clone, Debug)]
pub struct Overrides {
    /// In the place of the file's seed.
    pub seed: Option<Seed>,
    /// For a file without one, when `seed` is absent too.
    pub drawn_seed: Seed,
    /// Applied in this order before anything is read.
    pub set: Vec<Setting>,
    /// Record what passes on every link: the relay carries every network then.
    pub record: bool,
    /// What the kernel has that is to carry the plan. It decides what carries a network that leaves the choice.
    pub netem: NetemSupport,
}

impl Overrides {
    /// Nothing but the seed that was drawn for a file that has none, and a kernel without netem.
    pub fn new(drawn_seed: Seed) -> Overrides {
        Overrides { seed: None, drawn_seed, set: Vec::new(), record: false, netem: NetemSupport::Absent }
    }
}

/// Resolves what [`parse`](crate::parse) read from `source` with the settings of `overrides`.
///
/// # Errors
///
/// Everything that is wrong, and what the format has but nothing builds yet.
pub fn resolve(spec: &Spec, source: &Source, overrides: &Overrides) -> Result<Plan, Diagnostics> {
    let mut findings = Findings::new(source, &overrides.set);
    let plan = resolve_all(spec, overrides, &mut findings);
    findings.into_result()?;
    Ok(plan.expect("without a finding everything was resolved"))
}

fn resolve_all(spec: &Spec, overrides: &Overrides, findings: &mut Findings<'_>) -> Option<Plan> {
    let written = spec.seed.as_ref().map(|seed| Seed::new(seed.value));
    let seed = overrides.seed.or(written).unwrap_or(overrides.drawn_seed);
    check_name(&spec.name, "topology", findings);
    let timeout = resolve_timeout(spec, findings);
    let files = resolve_files(spec, seed, findings);
    check_names(&spec.links, "link profile", findings);
    for (_, link) in spec.links.iter() {
        check_link(&link.value, link.place, findings);
    }
    let names = Directory::new(spec, findings)?;
    let programs = nodes::resolve_programs(&names, findings);
    let (mut networks, interfaces) = networks::resolve_networks(spec, &names, findings);
    let is_router = routes::routers(&names, &programs, &networks, &interfaces, findings);
    let routes = routes::compute(&networks, &interfaces, &is_router);
    let ways = Ways::new(interfaces.iter().zip(&routes).map(|(interfaces, routes)| (&interfaces[..], &routes[..])));
    nodes::check_reachable(&names, &programs, &interfaces, &ways, findings);
    let order = order::resolve_order(&programs, &names, findings);
    let pairs = resolve_pairs(spec, &names, &interfaces, findings);
    let ground = Ground {
        spec,
        names: &names,
        files: &files,
        programs: &programs,
        networks: &networks,
        interfaces: &interfaces,
        ways: &ways,
        timeout,
    };
    let (events, changes) = resolve_events(&ground, findings);
    let expectations = expectations::resolve_expectations(&ground, &events, findings);
    let node_names: Vec<String> = names.ids().map(|node| names.name(node).to_owned()).collect();
    let record = overrides.record;
    let shaped =
        medium::Shaped { node_names: &node_names, interfaces: &interfaces, pairs: &pairs, events: &events, record };
    medium::choose_media(spec, &mut networks, &shaped, overrides.netem, findings);
    let nodes = nodes::assemble(seed, &names, programs, order, interfaces.into_iter().zip(routes), findings);
    sweep::check(spec, findings);
    let name = spec.name.value.clone();
    Some(Plan { name, seed, timeout, files, networks, nodes: nodes?, pairs, events, expectations, record, changes })
}

fn resolve_timeout(spec: &Spec, findings: &mut Findings<'_>) -> Span {
    let Some(timeout) = &spec.timeout else { return DEFAULT_TIMEOUT };
    if timeout.value.is_zero() {
        findings.invalid(timeout.place, "a timeout of 0 ends the run before it begins");
    } else if timeout.value > MAX_TIMEOUT {
        findings.invalid(timeout.place, format!("a timeout is at most {MAX_TIMEOUT}"));
    }
    timeout.value
}

fn resolve_files(spec: &Spec, seed: Seed, findings: &mut Findings<'_>) -> Vec<File> {
    check_names(&spec.files, "file", findings);
    if let Some((name, _)) = spec.files.0.get(MAX_FILES) {
        findings.invalid(name.place, format!("{} files; a topology may have {MAX_FILES}", spec.files.0.len()));
    }
    let mut files = Vec::new();
    for (name, file) in spec.files.iter() {
        let generated = |size| FileSource::Generated { size, seed: file_seed(seed, &name.value) };
        let source = match (&file.value.size, &file.value.path) {
            (Some(size), None) => {
                if size.value > MAX_FILE {
                    findings.invalid(size.place, format!("a file has at most {MAX_FILE}"));
                }
                generated(size.value)
            }
            (None, Some(path)) => {
                if path.value.is_empty() || path.value.contains('\0') {
                    findings.invalid(path.place, "a path cannot be empty or contain NUL");
                }
                FileSource::Existing(findings.path_of(&path.value))
            }
            (Some(_), Some(path)) => {
                findings.invalid(path.place, "a file has a `size`, or the `path` of an existing one, not both");
                generated(Size::ZERO)
            }
            (None, None) => {
                let message = format!("file `{}` has neither a `size` nor the `path` of an existing one", name.value);
                findings.invalid(file.place, message);
                generated(Size::ZERO)
            }
        };
        files.push(File { name: name.value.clone(), source });
    }
    files
}

fn resolve_pairs(
    spec: &Spec,
    names: &Directory<'_>,
    interfaces: &[Vec<Interface>],
    findings: &mut Findings<'_>,
) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut known = std::collections::BTreeSet::new();
    for pair in &spec.pairs {
        let from = names.all(&pair.value.from.value, pair.value.from.place, findings);
        let to = names.all(&pair.value.to.value, pair.value.to.place, findings);
        check_half(&pair.value.link.value, findings);
        let mut link = HalfLink::default();
        pair.value.link.value.apply(&mut link);
        check_complete(&link, &pair.value.link.value, pair.value.link.place, findings);
        let (Some(from), Some(to)) = (from, to) else { continue };
        if from == to && from.len() == 1 {
            let message = format!("`{}` reaches itself without any link", names.name(from[0]));
            findings.invalid(pair.value.to.place, message);
            continue;
        }
        let between: Vec<(NodeId, NodeId)> = from
            .iter()
            .flat_map(|from| to.iter().map(move |to| (*from, *to)))
            .filter(|(a, b)| a != b)
            .take(MAX_PAIRS + 1)
            .collect();
        if pairs.len() + between.len() > MAX_PAIRS {
            findings.invalid(
                pair.place,
                format!("the pairs up to here are more than {MAX_PAIRS}, groups counted by members"),
            );
            break;
        }
        for (from, to) in between {
            if !known.insert((from, to)) {
                let message = format!("the pair from `{}` to `{}` is given twice", names.name(from), names.name(to));
                findings.invalid(pair.place, message);
                break;
            }
            if !nodes::share_a_network(from, to, interfaces) {
                let message = format!("`{}` and `{}` are on no network together", names.name(from), names.name(to));
                let help = "a pair is between neighbours; over routers, impair the link of one of these";
                findings.invalid_but(pair.place, message, help);
                break;
            }
            pairs.push(Pair { from, to, link: link.clone() });
        }
    }
    pairs
}

/// Whether the node is the first of its entry, which speaks for all: what is wrong with an entry is told once.
fn speaks_for_entry(node: NodeId, names: &Directory<'_>) -> bool {
    node.0 == 0 || names.entry(NodeId(node.0 - 1)) != names.entry(node)
}

type Programs = Vec<Option<Program>>;
