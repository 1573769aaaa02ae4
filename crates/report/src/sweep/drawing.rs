//! A sweep's metrics over one of its axes, as SVG.

use super::{Metric, Sweep};
use crate::chart::{Chart, Mark, Position, Series};

/// For each metric that is to be drawn, and was measured, a file's name and its SVG.
pub fn drawings(sweep: &Sweep) -> Vec<(String, String)> {
    let Some(x) = sweep.x else { return Vec::new() };
    let drawn = sweep.metrics.iter().filter_map(|metric| {
        let chart = chart(sweep, x, *metric)?;
        Some((format!("{}.svg", metric.name().replace(' ', "-")), chart.svg()))
    });
    drawn.collect()
}

fn chart(sweep: &Sweep, x: usize, metric: Metric) -> Option<Chart> {
    let mut texts: Vec<&str> = Vec::new();
    for point in &sweep.points {
        if !texts.contains(&point.values[x].as_str()) {
            texts.push(&point.values[x]);
        }
    }
    let (positions, unit) = positions(&texts);
    let place = |text: &str| positions[texts.iter().position(|other| *other == text).unwrap_or_default()].at;

    let mut series: Vec<Series> = Vec::new();
    let mut largest = 0.0_f64;
    for point in &sweep.points {
        let others = sweep.axes.iter().zip(&point.values).enumerate().filter(|(axis, _)| *axis != x);
        let label = others.map(|(_, (axis, value))| format!("{axis}={value}")).collect::<Vec<_>>().join(", ");
        let at = series.iter().position(|one| one.label == label).unwrap_or_else(|| {
            series.push(Series { label, ..Series::default() });
            series.len() - 1
        });
        let x = place(&point.values[x]);
        if let Some(estimate) = point.estimate(metric) {
            largest = largest.max(estimate.mean);
            series[at].marks.push(Mark { x, y: estimate.mean, spread: estimate.deviation });
        }
        if let Some((expected, _)) = point.predicted(metric) {
            series[at].line.push((x, expected));
        }
    }
    if series.iter().all(|one| one.marks.is_empty()) {
        return None;
    }
    let (scale, seconds) = if largest < 1e-3 {
        (1e6, "µs")
    } else if largest < 1.0 {
        (1e3, "ms")
    } else {
        (1.0, "s")
    };
    for one in &mut series {
        one.marks.iter_mut().for_each(|mark| (mark.y, mark.spread) = (mark.y * scale, mark.spread * scale));
        one.line.iter_mut().for_each(|(_, y)| *y *= scale);
    }
    let passed = sweep.points.iter().filter_map(|point| point.estimate(metric)).map(|estimate| estimate.count);
    let (least, most) = (passed.clone().min().unwrap_or_default(), passed.max().unwrap_or_default());
    let runs = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let axis = &sweep.axes[x];
    // Bytes are written without a unit.
    let unit = unit.or_else(|| axis.ends_with(".mss").then(|| "bytes".to_owned()));
    Some(Chart {
        title: format!("{}: {}", sweep.name, metric.name()),
        x_label: unit.map_or_else(|| axis.clone(), |unit| format!("{axis} ({unit})")),
        y_label: format!("{} ({seconds})", metric.name()),
        marks_label: if most > 1 {
            format!("mean ± standard deviation of {runs} runs")
        } else {
            "measured".to_owned()
        },
        line_label: "formula".to_owned(),
        positions,
        series,
    })
}

/// Where values stand on the axis: by their number if all have one and the same unit, else side by side.
fn positions(texts: &[&str]) -> (Vec<Position>, Option<String>) {
    let numbers: Option<Vec<(f64, &str)>> = texts.iter().map(|text| quantity(text)).collect();
    let numbers =
        numbers.filter(|numbers| numbers.iter().all(|(_, unit)| Some(*unit) == numbers.first().map(|one| one.1)));
    match numbers {
        Some(numbers) => {
            let unit = numbers.first().map(|(_, unit)| (*unit).to_owned()).filter(|unit| !unit.is_empty());
            let positions = numbers.iter().map(|(number, _)| Position { at: *number, text: format!("{number}") });
            (positions.collect(), unit)
        }
        None => {
            let side_by_side = texts.iter().enumerate();
            (side_by_side.map(|(at, text)| Position { at: at as f64, text: (*text).to_owned() }).collect(), None)
        }
    }
}

/// A number and the unit behind it.
fn quantity(text: &str) -> Option<(f64, &str)> {
    let text = text.trim_matches('"');
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number: &f64| number.is_finite())?;
    let unit = text[end..].trim();
    unit.chars().all(|c| c.is_alphabetic() || c == '%').then_some((number, unit))
}

#[cfg(test)]
mod tests {
    use super::super::tests::sweep;
    use super::*;

    #[test]
    fn quantities_of_one_unit_stand_by_their_number_and_others_side_by_side() {
        let (positions, unit) = positions(&["1%", "2.5%", "10%"]);
        assert_eq!((positions[1].at, positions[2].at, unit.as_deref()), (2.5, 10.0, Some("%")));
        let (positions, unit) = super::positions(&["64KiB", "1MiB"]);
        assert_eq!((positions[1].at, positions[1].text.as_str(), unit), (1.0, "1MiB", None));
        assert_eq!(quantity("1.5e99"), None);
    }

    #[test]
    fn a_drawing_has_its_axes_marks_and_the_formula() {
        let drawings = drawings(&sweep());
        let (name, svg) = &drawings[1];
        assert_eq!(name, "time-per-segment.svg");
        for part in ["receiver.count", "time per segment (s)", "formula", "± standard deviation of 2 runs", "<polyline"]
        {
            assert!(svg.contains(part), "no {part} in\n{svg}");
        }
        assert_eq!(svg.matches("<circle").count(), 3 + 1, "one for each point, one in the legend");
    }

    #[test]
    fn names_cannot_leave_the_text() {
        let mut sweep = sweep();
        sweep.axes[0] = "</text><script>alert(1)</script>".into();
        assert!(drawings(&sweep).iter().all(|(_, svg)| !svg.contains("<script")));
    }
}
