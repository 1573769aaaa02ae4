//! The run as JUnit XML: each expectation a test case, and one more for the verdict itself.
//!
//! There is no standard; this keeps to what Jenkins, GitLab and the `junit-10.xsd` of the Jenkins xUnit plugin share.

use event::{ExpectationState, RunState, Verdict};

use crate::escape::xml;
use crate::stamp;
use crate::table::{run_name, verdict_line};

/// The test case that a run's own outcome is.
const VERDICT: &str = "verdict";

/// What a test case came to.
enum Outcome {
    Passed,
    Failure(String),
    Error(String),
    Skipped(String),
}

/// The document of one run.
///
/// A failed expectation is a failure. Where the run is INVALID the result means nothing, so expectations that did not
/// hold are skipped and the verdict is an error; so it is with a run that somebody stopped.
pub fn junit(state: &RunState) -> String {
    junit_of_all(std::slice::from_ref(state))
}

/// One document for several runs, a suite for each.
pub fn junit_of_all(states: &[RunState]) -> String {
    let suites: Vec<Suite> = states.iter().map(Suite::of).collect();
    let sum = |count: fn(&Suite) -> usize| suites.iter().map(count).sum::<usize>();
    let mut out = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"testbed\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">\n",
        sum(|suite| suite.cases.len()),
        sum(Suite::failures),
        sum(Suite::errors),
        suites.iter().map(|suite| suite.seconds).sum::<f64>()
    );
    for (suite, state) in suites.iter().zip(states) {
        out.push_str(&suite.element(state));
    }
    out.push_str("</testsuites>\n");
    out
}

/// One run.
struct Suite {
    cases: Vec<(String, Outcome)>,
    seconds: f64,
}

impl Suite {
    fn of(state: &RunState) -> Self {
        let mut cases: Vec<(String, Outcome)> = state
            .expectations
            .iter()
            .map(|expectation| (expectation.label.clone(), expectation_outcome(state, expectation)))
            .collect();
        cases.push((VERDICT.to_owned(), verdict_outcome(state)));
        Suite { cases, seconds: state.took.map_or(0.0, |took| took.as_secs_f64()) }
    }

    fn count(&self, is: fn(&Outcome) -> bool) -> usize {
        self.cases.iter().filter(|(_, outcome)| is(outcome)).count()
    }

    fn failures(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failure(_)))
    }

    fn errors(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Error(_)))
    }

    fn element(&self, state: &RunState) -> String {
        let name = xml(&run_name(state));
        let mut out = format!(
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
             time=\"{:.3}\" timestamp=\"{}\">\n    <properties>\n",
            self.cases.len(),
            self.failures(),
            self.errors(),
            self.count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            self.seconds,
            stamp::utc(state.unix_ms)
        );
        for (key, value) in properties(state) {
            out.push_str(&format!("      <property name=\"{key}\" value=\"{}\"/>\n", xml(&value)));
        }
        out.push_str("    </properties>\n");
        for (label, outcome) in &self.cases {
            out.push_str(&case(&name, label, outcome, if label == VERDICT { self.seconds } else { 0.0 }));
        }
        out.push_str("  </testsuite>\n");
        out
    }
}

fn properties(state: &RunState) -> Vec<(&'static str, String)> {
    vec![
        ("seed", state.seed.map(|seed| seed.to_string()).unwrap_or_default()),
        ("engine", state.engine.clone()),
        ("file", state.file.clone()),
        ("version", state.version.clone()),
        ("repeat", state.repeat.clone()),
    ]
}

fn expectation_outcome(state: &RunState, expectation: &ExpectationState) -> Outcome {
    match (expectation.held, state.verdict) {
        (Some(true), _) => Outcome::Passed,
        (Some(false), Some(Verdict::Invalid)) => {
            Outcome::Skipped(format!("the run is INVALID; found {}", expectation.found))
        }
        (Some(false), _) => Outcome::Failure(format!("found {}", expectation.found)),
        (None, _) => Outcome::Skipped("not decided when the run ended".to_owned()),
    }
}

fn verdict_outcome(state: &RunState) -> Outcome {
    match state.verdict {
        Some(Verdict::Pass) => Outcome::Passed,
        Some(Verdict::Fail) => Outcome::Failure(verdict_line(state)),
        Some(Verdict::Invalid | Verdict::Interrupted) | None => Outcome::Error(verdict_line(state)),
    }
    .with_causes(&state.causes)
}

impl Outcome {
    /// The further causes, after the first that the verdict's line has.
    fn with_causes(mut self, causes: &[String]) -> Self {
        if let Outcome::Failure(text) | Outcome::Error(text) = &mut self {
            for cause in causes.iter().skip(1) {
                text.push('\n');
                text.push_str(cause);
            }
        }
        self
    }

    fn element(&self) -> Option<(&'static str, &str)> {
        match self {
            Outcome::Passed => None,
            Outcome::Failure(text) => Some(("failure", text)),
            Outcome::Error(text) => Some(("error", text)),
            Outcome::Skipped(text) => Some(("skipped", text)),
        }
    }
}

fn case(suite: &str, label: &str, outcome: &Outcome, seconds: f64) -> String {
    let open = format!("    <testcase classname=\"{suite}\" name=\"{}\" time=\"{seconds:.3}\"", xml(label));
    let Some((element, text)) = outcome.element() else {
        return format!("{open}/>\n");
    };
    let message = xml(text.lines().next().unwrap_or_default());
    if element == "skipped" {
        return format!("{open}>\n      <skipped message=\"{message}\"/>\n    </testcase>\n");
    }
    let body: Vec<String> = text.lines().map(xml).collect();
    format!(
        "{open}>\n      <{element} message=\"{message}\" type=\"{element}\">{}</{element}>\n    </testcase>\n",
        body.join("\n")
    )
}
