//! A sweep for programs: JSON and CSV, and all its files into a folder.

use std::path::Path;

use serde_json::{Value, json};

use super::{Estimate, Metric, Point, Sweep, drawings};
use crate::files::{WriteError, write_whole};

/// The name of the JSON file.
const JSON: &str = "sweep.json";
/// The name of the CSV file.
const CSV: &str = "sweep.csv";

/// Writes `sweep.json`, `sweep.csv` and the drawings into `directory`, which exists; the names of what was written.
///
/// # Errors
/// The first file that could not be written.
pub fn write_sweep(sweep: &Sweep, directory: &Path) -> Result<Vec<String>, WriteError> {
    let mut files = vec![(JSON.to_owned(), format!("{:#}\n", json(sweep))), (CSV.to_owned(), csv(sweep))];
    files.extend(drawings(sweep));
    for (name, text) in &files {
        write_whole(directory, name, text)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// Everything, times in seconds.
pub fn json(sweep: &Sweep) -> Value {
    json!({
        "name": sweep.name,
        "file": sweep.file,
        "seed": sweep.seed,
        "engine": sweep.engine,
        "version": sweep.version,
        "repeat": sweep.repeat,
        "verdict": sweep.verdict(),
        "axes": sweep.axes,
        "points": sweep.points.iter().map(|point| point_json(sweep, point)).collect::<Vec<_>>(),
    })
}

fn point_json(sweep: &Sweep, point: &Point) -> Value {
    let settings: serde_json::Map<String, Value> =
        sweep.axes.iter().zip(&point.values).map(|(axis, value)| (axis.clone(), Value::from(value.as_str()))).collect();
    let estimate = |metric| {
        point.estimate(metric).map(|Estimate { mean, deviation, count }| {
        json!({ "mean": mean, "standard-deviation": deviation, "runs": count })
    })
    };
    let runs = point.runs.iter().map(|run| {
        json!({
            "seed": run.seed,
            "verdict": run.verdict,
            "cause": run.cause,
            "seconds": run.seconds,
            "segments": run.segments,
            "rounds": run.rounds,
            "directory": run.directory,
            "repeat": run.repeat,
        })
    });
    json!({
        "settings": settings,
        "total-time": estimate(Metric::TotalTime),
        "time-per-segment": estimate(Metric::TimePerSegment),
        "prediction": point.prediction.map(|prediction| json!({
            "seconds": prediction.seconds,
            "standard-deviation": prediction.deviation,
            "segments": prediction.segments,
            "timeout": prediction.measured.map(|measured| measured.timeout),
            "round-trip": prediction.measured.map(|measured| measured.round_trip),
        })),
        "standard-errors": point.standard_errors(),
        "runs": runs.collect::<Vec<_>>(),
    })
}

/// One line a run (RFC 4180, but with plain line feeds), times in seconds.
pub fn csv(sweep: &Sweep) -> String {
    let mut header: Vec<String> = sweep.axes.clone();
    header.extend(
        ["repetition", "seed", "verdict", "seconds", "segments", "predicted_seconds", "predicted_deviation"]
            .map(str::to_owned),
    );
    let mut text = line(&header);
    for point in &sweep.points {
        for (index, run) in point.runs.iter().enumerate() {
            let mut fields = point.values.clone();
            fields.extend([
                (index + 1).to_string(),
                run.seed.to_string(),
                run.verdict.map(|verdict| verdict.to_string()).unwrap_or_default(),
                run.seconds.map(|seconds| seconds.to_string()).unwrap_or_default(),
                run.segments.map(|segments| segments.to_string()).unwrap_or_default(),
                point.prediction.map(|prediction| prediction.seconds.to_string()).unwrap_or_default(),
                point.prediction.map(|prediction| prediction.deviation.to_string()).unwrap_or_default(),
            ]);
            text.push_str(&line(&fields));
        }
    }
    text
}

fn line(fields: &[String]) -> String {
    let quoted = fields.iter().map(|field| {
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    });
    format!("{}\n", quoted.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;
    use super::*;

    #[test]
    fn a_run_is_a_line() {
        let mut sweep = sweep();
        sweep.points[0].values[0] = "a,\"b\"".into();
        let text = csv(&sweep);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("receiver.count,repetition,seed,verdict,seconds,segments,predicted_seconds,predicted_deviation")
        );
        assert_eq!(lines.next(), Some("\"a,\"\"b\"\"\",1,7,PASS,9,20,9,1"));
        assert_eq!(text.lines().count(), 7);
    }

    #[test]
    fn the_files_are_written_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let names = write_sweep(&sweep(), folder.path()).unwrap();
        assert_eq!(names, ["sweep.json", "sweep.csv", "total-time.svg", "time-per-segment.svg"]);
        let text = std::fs::read_to_string(folder.path().join("sweep.json")).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["points"][1]["settings"]["receiver.count"], "2");
        assert_eq!(value["points"][0]["total-time"]["mean"], 10.0);
    }
}
