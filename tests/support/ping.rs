//! What a node called `pinger` has measured with `ping`.

use super::{Run, has_program, skip};

/// Whether there is no `ping`, and that was said.
pub(crate) fn no_ping() -> bool {
    if has_program("ping") {
        return false;
    }
    skip("ping is not installed");
    true
}

/// Round-trip times in milliseconds, in the order of the answers.
pub(crate) fn times(run: &Run) -> Vec<f64> {
    let said = run.stdout_of("pinger");
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse().ok();
    said.lines().filter_map(time).collect()
}

/// What the network took: all that others took longer is the machine's.
pub(crate) fn quickest(times: &[f64]) -> f64 {
    times.iter().copied().min_by(f64::total_cmp).expect("no ping was answered")
}
