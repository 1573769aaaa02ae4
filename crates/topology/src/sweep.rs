//! `sweep:`: one topology many times, with other values at some paths.
//!
//! Every point is resolved before anything runs, so a wrong value is told with its place in the file.

use machine::Seed;

use crate::diagnostic::Diagnostics;
use crate::findings::Findings;
use crate::plan::Plan;
use crate::resolve::{Overrides, resolve};
use crate::source::{Place, Source};
use crate::spec::{FIELDS, Scalar, Spec, interpret, tree};
use crate::yaml::{At, Content, Node, Setting, parts, plain_or_quoted, put};

/// The runs that a topology with `sweep:` asks for: each point as often as `repeat` says.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The topology's name.
    pub name: String,
    /// The seed from which each run's own is derived.
    pub seed: Seed,
    /// The paths that no setting has fixed, in the order of the file.
    pub axes: Vec<Axis>,
    /// Every combination of the axes' values; the last axis moves fastest. One point where there is no axis.
    pub points: Vec<Point>,
    /// Runs of each point.
    pub repeat: u32,
    /// Position of the axis to draw over. `None` where there is no axis.
    pub x: Option<usize>,
    /// What to draw.
    pub y: Vec<Metric>,
}

/// A path and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Dotted, as the file has it.
    pub path: String,
    /// As the file writes them.
    pub values: Vec<String>,
}

/// One combination of values.
#[derive(Clone, Debug)]
pub struct Point {
    /// As `--set` takes them: one for each axis.
    pub settings: Vec<Setting>,
    /// The plan with the sweep's seed.
    pub plan: Plan,
}

/// What is measured of a run, and drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Until all that is awaited was done, in seconds.
    TotalTime,
    /// The same divided by the file's segments, in seconds.
    TimePerSegment,
}

/// The metrics as a file names them.
pub(crate) const METRICS: &[&str] = &["total-time", "time-per-segment"];

const MAX_REPEAT: u32 = 10_000;
/// Every point is resolved before the first run.
const MAX_POINTS: usize = 1000;

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 2] = [Metric::TotalTime, Metric::TimePerSegment];

    /// As a file names it.
    pub fn name(self) -> &'static str {
        METRICS[self as usize]
    }
}

impl Sweep {
    /// The seed of one run: it depends on the point's values and on the repetition (from 1), not on their order, so
    /// that a point's runs stay the same when others join it.
    pub fn seed_of(&self, point: &Point, repetition: u32) -> Seed {
        let derived = self.seed.derive(&format!("sweep/{}/{repetition}", point.label()));
        // Short enough to be typed again.
        Seed::new(derived.value() & 0xffff_ffff)
    }
}

impl Point {
    /// What tells it from the other points: `receiver.count=3, sender.mss=500`.
    pub fn label(&self) -> String {
        self.settings.iter().map(Setting::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The sweep of a topology; `None` where it has none. A swept path that `overrides` sets has that value alone.
///
/// # Errors
///
/// Everything that is wrong with the file, the settings, or the first point that is wrong.
pub fn sweep(source: &Source, overrides: &Overrides) -> Result<Option<Sweep>, Diagnostics> {
    let root = tree(source, &overrides.set)?;
    let spec = interpret(&root, source, &overrides.set)?;
    let base = resolve(&spec, source, overrides)?;
    let Some(swept) = &spec.sweep else { return Ok(None) };
    let fixed: Vec<_> = overrides.set.iter().filter_map(|setting| parts(&root, &setting.path, FIELDS).ok()).collect();
    let is_open = |path: &str| parts(&root, path, FIELDS).is_ok_and(|parts| !fixed.contains(&parts));

    let mut findings = Findings::new(source, &overrides.set);
    let mut axes: Vec<Swept> = Vec::new();
    let mut seen = Vec::new();
    for (path, nodes) in value_nodes(&root) {
        let Some((key, texts)) = swept.value.iter().find(|(key, _)| key.value == path) else { continue };
        match parts(&root, path, FIELDS) {
            Err(message) => findings.invalid(key.place, message),
            Ok(whole) if seen.contains(&whole) => {
                findings.invalid(key.place, format!("`{}` is swept twice", whole.join(".")));
            }
            Ok(whole) => {
                check_beginning(&whole, key, &spec, &mut findings);
                seen.push(whole);
            }
        }
        if is_open(path) {
            let texts = texts.value.iter().zip(nodes).map(|(text, node)| match node.content {
                Content::Text(_) => plain_or_quoted(&text.0),
                _ => text.0.clone(),
            });
            let axis = Axis { path: path.to_owned(), values: texts.collect() };
            axes.push(Swept { axis, place: key.place, nodes: nodes.to_vec() });
        }
    }
    let count = axes.iter().fold(1_usize, |count, swept| count.saturating_mul(swept.nodes.len()));
    if count > MAX_POINTS {
        findings.invalid(swept.place, format!("{count} points; a sweep has at most {MAX_POINTS}"));
    }
    findings.into_result()?;

    let points = (0..count).map(|number| point(number, &axes, &root, source, overrides)).collect::<Result<_, _>>()?;
    let axes: Vec<Axis> = axes.into_iter().map(|swept| swept.axis).collect();
    let plot = spec.plot.as_ref().map(|plot| &plot.value);
    let x = plot.and_then(|plot| plot.x.as_ref()).and_then(|x| axes.iter().position(|axis| axis.path == x.value));
    let asked = plot.and_then(|plot| plot.y.as_ref());
    Ok(Some(Sweep {
        name: base.name().to_owned(),
        seed: base.seed(),
        x: x.or((!axes.is_empty()).then_some(0)),
        y: Metric::ALL
            .into_iter()
            .filter(|metric| asked.is_none_or(|asked| asked.value.iter().any(|name| name.value == metric.name())))
            .collect(),
        axes,
        points,
        repeat: spec.repeat.as_ref().map_or(1, |repeat| repeat.value),
    }))
}

/// What of `sweep`, `repeat` and `plot` can be judged without any of the points.
pub(crate) fn check(spec: &Spec, findings: &mut Findings<'_>) {
    if let Some(repeat) = spec.repeat.as_ref().filter(|repeat| !(1..=MAX_REPEAT).contains(&repeat.value)) {
        findings.invalid(repeat.place, format!("a point is repeated 1 to {MAX_REPEAT} times"));
    }
    for (name, place) in [
        ("repeat", spec.repeat.as_ref().map(|repeat| repeat.place)),
        ("plot", spec.plot.as_ref().map(|plot| plot.place)),
    ] {
        if let (Some(place), None) = (place, &spec.sweep) {
            let help = "`testbed run --repeat 5` repeats a topology without one";
            findings.invalid_but(place, format!("`{name}` is about the points of a `sweep`, and there is none"), help);
        }
    }
    let Some(sweep) = &spec.sweep else { return };
    if sweep.value.is_empty() {
        findings.invalid(sweep.place, "a sweep names at least one path");
    }
    for (path, values) in sweep.value.iter() {
        if values.value.is_empty() {
            findings.invalid(values.place, format!("`{}` has no values to sweep over", path.value));
        }
        let twice = values.value.iter().enumerate().find(|(index, value)| values.value[..*index].contains(value));
        if let Some((_, Scalar(value))) = twice {
            findings
                .invalid(values.place, format!("`{}` is to be {value} twice; `repeat` runs points again", path.value));
        }
        if ["sweep", "repeat", "plot", "seed", "name"].contains(&path.value.split('.').next().unwrap_or_default()) {
            findings.invalid(path.place, format!("`{}` is the same for all points", path.value));
        }
    }
    let Some(plot) = spec.plot.as_ref().map(|plot| &plot.value) else { return };
    if let Some(x) = plot.x.as_ref().filter(|x| sweep.value.get(&x.value).is_none()) {
        findings.unknown(x.place, "swept path", &x.value, sweep.value.names());
    }
    for y in plot.y.iter().flat_map(|y| y.value.iter()).filter(|y| !METRICS.contains(&y.value.as_str())) {
        findings.unknown(y.place, "metric", &y.value, METRICS.iter().copied());
    }
}

/// The first part of a path is a field of the file or a node; the rest is told by what is read at a point.
fn check_beginning(whole: &[&str], key: &At<String>, spec: &Spec, findings: &mut Findings<'_>) {
    if !FIELDS.contains(&whole[0]) {
        let known = spec.nodes.names().chain(FIELDS.iter().copied());
        findings.unknown(findings.narrow(key.place, whole[0]), "node or field", whole[0], known);
    }
}

/// The paths under `sweep:` and their values.
fn value_nodes(root: &Node) -> Vec<(&str, &[Node])> {
    let entries = |node: &Node, name: &str| match &node.content {
        Content::Map(entries) => entries.iter().position(|(key, _)| key.name == name),
        _ => None,
    };
    let Content::Map(fields) = &root.content else { return Vec::new() };
    let Some(Content::Map(paths)) = entries(root, "sweep").map(|at| &fields[at].1.content) else { return Vec::new() };
    let lists = paths.iter().filter_map(|(key, values)| match &values.content {
        Content::List(items) => Some((key.name.as_str(), items.as_slice())),
        _ => None,
    });
    lists.collect()
}

/// An axis as the file has it.
struct Swept {
    axis: Axis,
    /// Of the path.
    place: Place,
    nodes: Vec<Node>,
}

/// The point of this number: its values are the digits, the last axis counts ones.
fn point(
    number: usize,
    axes: &[Swept],
    root: &Node,
    source: &Source,
    overrides: &Overrides,
) -> Result<Point, Diagnostics> {
    let mut changed = root.clone();
    let mut settings = Vec::new();
    let mut findings = Findings::new(source, &overrides.set);
    let mut rest = number;
    let mut chosen: Vec<usize> = Vec::new();
    for swept in axes.iter().rev() {
        chosen.push(rest % swept.nodes.len());
        rest /= swept.nodes.len();
    }
    for (Swept { axis, place, nodes }, index) in axes.iter().zip(chosen.into_iter().rev()) {
        settings.push(Setting { path: axis.path.clone(), value: axis.values[index].clone() });
        if let Err(message) = put(&mut changed, &axis.path, *place, nodes[index].clone(), FIELDS) {
            findings.invalid(*place, message);
        }
    }
    findings.into_result()?;
    let spec = interpret(&changed, source, &overrides.set)?;
    Ok(Point { settings, plan: resolve(&spec, source, overrides)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_AXES: &str = "name: t\nnodes: {a: {run: [sleep, 1], count: 2}, b: {run: [sleep, 1]}}\n\
        sweep: {a.count: [1, 3], nodes.b.stop-grace: [1s, 2s, 3s]}\nrepeat: 4\nplot: {x: nodes.b.stop-grace}\n";

    fn read(text: &str, set: &[&str]) -> Sweep {
        let set = set.iter().map(|text| text.parse().unwrap()).collect();
        let overrides = Overrides { set, ..Overrides::new(Seed::new(7)) };
        sweep(&Source::new("t.yaml", text), &overrides).unwrap_or_else(|error| panic!("{error}")).unwrap()
    }

    #[test]
    fn points_are_all_combinations() {
        let sweep = read(TWO_AXES, &[]);
        let labels: Vec<_> = sweep.points.iter().map(Point::label).collect();
        assert_eq!(labels.len(), 6);
        assert_eq!(labels[1], "a.count=1, nodes.b.stop-grace=2s");
        assert_eq!(labels[5], "a.count=3, nodes.b.stop-grace=3s");
        assert_eq!(sweep.points[5].plan.nodes().len(), 4);
        assert_eq!((sweep.repeat, sweep.x), (4, Some(1)));
    }

    #[test]
    fn a_setting_fixes_a_path_in_either_form() {
        for set in ["a.count=2", "nodes.a.count=2"] {
            let sweep = read(TWO_AXES, &[set]);
            assert_eq!((sweep.points.len(), sweep.axes.len(), sweep.x), (3, 1, Some(0)));
            assert_eq!(sweep.points[0].plan.nodes().len(), 3);
        }
        let all = read(TWO_AXES, &["a.count=2", "b.stop-grace=9s"]);
        assert_eq!((all.points.len(), all.axes.len(), all.x), (1, 0, None));
    }

    #[test]
    fn the_settings_of_a_point_make_the_same_plan() {
        let sweep = read(TWO_AXES, &[]);
        for point in &sweep.points {
            let overrides = Overrides { set: point.settings.clone(), ..Overrides::new(Seed::new(7)) };
            assert_eq!(crate::load(&Source::new("t.yaml", TWO_AXES), &overrides).unwrap(), point.plan);
        }
    }

    #[test]
    fn a_run_has_a_seed_of_its_own_whatever_other_points_there_are() {
        let sweep = read(TWO_AXES, &[]);
        let narrowed = read(&TWO_AXES.replace("[1, 3]", "[3]"), &[]);
        assert_eq!(sweep.seed_of(&sweep.points[3], 2), narrowed.seed_of(&narrowed.points[0], 2));
        assert_ne!(sweep.seed_of(&sweep.points[3], 2), sweep.seed_of(&sweep.points[3], 1));
    }

    #[test]
    fn a_sweep_can_be_taken_away() {
        let set = ["sweep=", "repeat=", "plot="].map(|text| text.parse().unwrap()).to_vec();
        let overrides = Overrides { set, ..Overrides::new(Seed::new(7)) };
        assert!(sweep(&Source::new("t.yaml", TWO_AXES), &overrides).unwrap().is_none());
    }
}
