//! A chart as SVG: points with their spread, lines for what theory says. Readable on white and on black.

use crate::escape;

/// What a chart shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x_label: String,
    pub(crate) y_label: String,
    /// What a point with its bar is.
    pub(crate) marks_label: String,
    /// What a line is.
    pub(crate) line_label: String,
    /// The values of the horizontal axis.
    pub(crate) positions: Vec<Position>,
    pub(crate) series: Vec<Series>,
}

/// A value of the horizontal axis.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) at: f64,
    pub(crate) text: String,
}

/// Points of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    /// Empty where there is but one.
    pub(crate) label: String,
    pub(crate) marks: Vec<Mark>,
    pub(crate) line: Vec<(f64, f64)>,
}

/// A measured point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// The bar reaches so far up and down.
    pub(crate) spread: f64,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 56.0;
/// How far the first and the last value stand from the frame.
const INSET: f64 = 28.0;
/// Told apart also by who sees no difference of red and green (Okabe and Ito), and light enough for a dark page.
const COLOURS: [&str; 6] = ["#2a83c8", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9"];
/// As many steps of the vertical axis at most.
const STEPS: f64 = 6.0;
/// Of the horizontal axis as many values get a text.
const MOST_TEXTS: usize = 12;

impl Chart {
    pub(crate) fn svg(&self) -> String {
        let frame = Frame::around(self);
        let mut body = self.axes(&frame);
        for (index, series) in self.series.iter().enumerate() {
            body.push_str(&series.svg(&frame, COLOURS[index % COLOURS.len()]));
        }
        body.push_str(&self.legend());
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" "#,
                r#"height="{height}" font-family="sans-serif" font-size="13" role="img">"#,
                "\n<title>{title}</title>\n{style}\n{body}</svg>\n"
            ),
            width = WIDTH,
            height = HEIGHT,
            title = escape::xml(&self.title),
            style = STYLE,
            body = body,
        )
    }

    fn axes(&self, frame: &Frame) -> String {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        let mut out = String::new();
        let mut step = 0.0;
        while step <= frame.top + frame.step * 1e-6 {
            let y = frame.y(step);
            out.push_str(&format!("<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\n"));
            out.push_str(&text(LEFT - 8.0, y + 4.0, "end", &number(step, frame.step)));
            step += frame.step;
        }
        let every = self.positions.len().div_ceil(MOST_TEXTS).max(1);
        for position in self.positions.iter().step_by(every) {
            let x = frame.x(position.at);
            let (from, to) = (bottom, bottom + 5.0);
            out.push_str(&format!("<line class=\"axis\" x1=\"{x:.1}\" y1=\"{from}\" x2=\"{x:.1}\" y2=\"{to}\"/>\n"));
            out.push_str(&text(x, bottom + 20.0, "middle", &position.text));
        }
        out.push_str(&format!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>\n"));
        out.push_str(&text((LEFT + right) / 2.0, HEIGHT - 12.0, "middle", &self.x_label));
        let middle = (TOP + bottom) / 2.0;
        let turned = text(0.0, 0.0, "middle", &self.y_label);
        out.push_str(&format!("<g transform=\"translate(18 {middle}) rotate(-90)\">{}</g>\n", turned.trim_end()));
        out.push_str(&format!("<g font-weight=\"bold\">{}</g>\n", text(LEFT, 22.0, "start", &self.title).trim_end()));
        out
    }

    /// What points and lines are, and which colour is which series.
    fn legend(&self) -> String {
        let y = 44.0;
        let mut x = LEFT;
        let mut out = String::new();
        let plain = if self.series.len() == 1 { COLOURS[0] } else { "#7d8590" };
        let mut entry = |drawing: String, label: &str| {
            out.push_str(
                &drawing
                    .replace("{x}", &format!("{:.1}", x + 8.0))
                    .replace("{x0}", &format!("{x:.1}"))
                    .replace("{x1}", &format!("{:.1}", x + 16.0)),
            );
            out.push_str(&text(x + 22.0, y + 4.0, "start", label));
            // Characters of this size are some seven units wide.
            x += 22.0 + 7.0 * label.chars().count() as f64 + 18.0;
        };
        entry(
            format!(
                "<path d=\"M{{x}} {}V{}\" stroke=\"{plain}\"/><circle cx=\"{{x}}\" cy=\"{y}\" r=\"4\" fill=\"{plain}\"/>\n",
                y - 8.0,
                y + 8.0
            ),
            &self.marks_label,
        );
        if self.series.iter().any(|series| !series.line.is_empty()) {
            let line = format!("<path class=\"line\" d=\"M{{x0}} {y}H{{x1}}\" stroke=\"{plain}\"/>\n");
            entry(line, &self.line_label);
        }
        for (index, series) in self.series.iter().enumerate().filter(|(_, series)| !series.label.is_empty()) {
            let colour = COLOURS[index % COLOURS.len()];
            let square = format!("<path d=\"M{{x0}} {}h12v12h-12z\" fill=\"{colour}\"/>\n", y - 6.0);
            entry(square, &series.label);
        }
        out
    }
}

impl Series {
    fn svg(&self, frame: &Frame, colour: &str) -> String {
        let mut out = String::new();
        if !self.line.is_empty() {
            let mut line = self.line.clone();
            line.sort_by(|a, b| a.0.total_cmp(&b.0));
            let points: Vec<_> = line.iter().map(|(x, y)| format!("{:.1},{:.1}", frame.x(*x), frame.y(*y))).collect();
            out.push_str(&format!("<polyline class=\"line\" points=\"{}\" stroke=\"{colour}\"/>\n", points.join(" ")));
        }
        for Mark { x, y, spread } in &self.marks {
            let (cx, cy) = (frame.x(*x), frame.y(*y));
            let (high, low) = (frame.y(y + spread), frame.y((y - spread).max(0.0)));
            let (left, right) = (cx - 4.0, cx + 4.0);
            if *spread > 0.0 {
                out.push_str(&format!(
                    "<path d=\"M{left:.1} {high:.1}H{right:.1}M{cx:.1} {high:.1}V{low:.1}M{left:.1} {low:.1}H{right:.1}\" stroke=\"{colour}\" fill=\"none\"/>\n",
                ));
            }
            out.push_str(&format!("<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"{colour}\"/>\n"));
        }
        out
    }
}

/// From values to places.
struct Frame {
    first: f64,
    last: f64,
    /// The highest value, a multiple of `step`.
    top: f64,
    step: f64,
}

impl Frame {
    fn around(chart: &Chart) -> Self {
        let marks = chart.series.iter().flat_map(|series| series.marks.iter().map(|mark| mark.y + mark.spread));
        let lines = chart.series.iter().flat_map(|series| series.line.iter().map(|(_, y)| *y));
        let highest = marks.chain(lines).filter(|y| y.is_finite()).fold(f64::MIN_POSITIVE, f64::max);
        let step = round_step(highest / STEPS);
        let at = chart.positions.iter().map(|position| position.at);
        Frame {
            first: at.clone().fold(f64::INFINITY, f64::min),
            last: at.fold(f64::NEG_INFINITY, f64::max),
            top: (highest / step).ceil() * step,
            step,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let (left, right) = (LEFT + INSET, WIDTH - RIGHT - INSET);
        if self.last > self.first {
            left + (value - self.first) / (self.last - self.first) * (right - left)
        } else {
            (left + right) / 2.0
        }
    }

    fn y(&self, value: f64) -> f64 {
        let bottom = HEIGHT - BOTTOM;
        bottom - value / self.top * (bottom - TOP)
    }
}

/// The next 1, 2 or 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// With as many digits as the step between two needs.
fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.digits$}")
}

fn text(x: f64, y: f64, anchor: &str, words: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escape::xml(words))
}

/// Middle greys, and on a page that says it is dark lighter ones.
const STYLE: &str = "<style>text{fill:#6f7a86}.axis{stroke:#7d8590;fill:none}.grid{stroke:#7d8590;stroke-opacity:.25}\
.line{fill:none;stroke-width:1.5;stroke-opacity:.75;stroke-dasharray:6 3}\
@media(prefers-color-scheme:dark){text{fill:#b1bac4}}</style>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let steps = [0.13, 0.2, 0.21, 1.0, 7.0, 800.0].map(round_step);
        assert!(
            steps.iter().zip([0.2, 0.2, 0.5, 1.0, 10.0, 1000.0]).all(|(a, b)| (a / b - 1.0).abs() < 1e-9),
            "{steps:?}"
        );
        assert_eq!([number(0.4, 0.2), number(1500.0, 500.0)], ["0.4", "1500"]);
    }

    #[test]
    fn a_single_point_at_zero_is_still_a_chart() {
        let chart = Chart {
            positions: vec![Position { at: 3.0, text: "3".into() }],
            series: vec![Series { marks: vec![Mark { x: 3.0, y: 0.0, spread: 0.0 }], ..Series::default() }],
            ..Chart::default()
        };
        let svg = chart.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
