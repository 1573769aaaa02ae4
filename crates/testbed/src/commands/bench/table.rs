//! The bench's results for people. Everything in it is in the JSON.

use std::fmt::Write as _;

use serde_json::Value;
use sim::agreement::Figure;

pub(super) fn of(results: &Value) -> String {
    let mut text = String::new();
    let machine = &results["machine"];
    let _ = writeln!(
        text,
        "Linux {}, {} CPUs, load {} before; {}; {}",
        words(&machine["kernel"]),
        machine["cpus"],
        number(&machine["load"], 2),
        if machine["root"] == true { "root" } else { "without root" },
        if machine["netem"] == true { "with netem" } else { "the kernel has no netem" },
    );
    for (shaper, rows) in results["agreement"].as_object().into_iter().flatten() {
        agreement(&mut text, shaper, rows);
    }
    if let Some(rows) = results["throughput"].as_array() {
        throughput(&mut text, rows);
    }
    for (shaper, found) in results["changes"].as_object().into_iter().flatten() {
        let _ = write!(
            text,
            "\n{shaper}: {} changes of a link, late by ms\n  change      {}\n  bare timer  {}\n  {} packets passed, {} \
             contradict\n",
            found["changes"],
            quantiles(&found["late-ms"]),
            quantiles(&found["timer-ms"]),
            found["packets"],
            found["contradicting"],
        );
    }
    for (shaper, found) in results["load"].as_object().into_iter().flatten() {
        let _ = write!(
            text,
            "\n{shaper}: {} links carry {} Mbit/s each: {} of {} packets arrived, late by ms\n  packets     {}\n  bare timer  {}\n",
            found["links"],
            found["mbit-per-second-each"],
            found["arrived"],
            found["sent"],
            quantiles(&found["delay-error-ms"]),
            quantiles(&found["timer-ms"]),
        );
        if found["relay-cpu-us-per-packet"].is_number() {
            let _ =
                writeln!(text, "  the relay takes {} us of CPU a packet", number(&found["relay-cpu-us-per-packet"], 2));
        }
    }
    if let Some(found) = results["capture"].as_object() {
        capture(&mut text, &found["flows"], &found["load"]);
    }
    text
}

fn agreement(text: &mut String, shaper: &str, rows: &Value) {
    let _ = writeln!(text, "\n{shaper} against the model: found (expected ± standard deviation)");
    let mut table = vec![vec!["row".to_owned(), "sent".to_owned()]];
    table[0].extend(Figure::ALL.map(|figure| figure.name().to_owned()));
    table[0].push(String::new());
    for row in rows.as_array().into_iter().flatten() {
        let mut line = vec![words(&row["row"]), row["sent"].to_string()];
        for figure in Figure::ALL {
            let told = &row["figures"][figure.name()];
            let digits = if figure.is_count() { 0 } else { 2 };
            let deviation = told["deviation"].as_f64().unwrap_or_default();
            let spread = if deviation < 0.005 { String::new() } else { format!(" ± {deviation:.1}") };
            line.push(match (told["found"].as_f64(), told["expected"].as_f64()) {
                (Some(0.0), Some(0.0)) => "0".to_owned(),
                (Some(found), Some(expected)) => format!("{found:.digits$} ({expected:.digits$}{spread})"),
                _ => String::new(),
            });
        }
        let strays: Vec<String> =
            row["strays"].as_array().into_iter().flatten().map(|stray| words(&stray["figure"])).collect();
        let verdict = if strays.is_empty() { "agrees".to_owned() } else { format!("STRAYS: {}", strays.join(", ")) };
        let busy = if row["kept-up"] == true { "" } else { " (this machine was too busy)" };
        line.push(format!("{verdict}{busy}"));
        table.push(line);
    }
    aligned(text, &table);
}

fn throughput(text: &mut String, rows: &[Value]) {
    let _ = writeln!(text, "\none TCP flow");
    let mut table =
        vec![["over", "offload", "Gbit/s", "of the bridge's", "us of CPU a packet"].map(str::to_owned).to_vec()];
    for row in rows {
        table.push(vec![
            words(&row["over"]),
            if row["offload"] == true { "on" } else { "off" }.to_owned(),
            number(&row["gbit-per-second"], 2),
            format!("{} %", number(&(row["of-bridge"].as_f64().unwrap_or_default() * 100.0).into(), 0)),
            number(&row["cpu-us-per-packet"], 2),
        ]);
    }
    aligned(text, &table);
}

fn capture(text: &mut String, flows: &Value, loads: &Value) {
    let recorded = |row: &Value| {
        let share = number(&(row["unrecorded"].as_f64().unwrap_or_default() * 100.0).into(), 1);
        if row["recorded"] == true { format!("recorded, but for {share} %") } else { "not recorded".to_owned() }
    };
    let _ = writeln!(text, "\nrelay, recording every packet: one TCP flow");
    let mut table = vec![["over", "Gbit/s", "us of CPU a packet", ""].map(str::to_owned).to_vec()];
    for row in flows.as_array().into_iter().flatten() {
        table.push(vec![
            words(&row["over"]),
            number(&row["gbit-per-second"], 2),
            number(&row["cpu-us-per-packet"], 2),
            recorded(row),
        ]);
    }
    aligned(text, &table);
    let _ = writeln!(text, "relay, recording every packet: many links, packets late by ms");
    for row in loads.as_array().into_iter().flatten() {
        let (late, cpu) = (quantiles(&row["delay-error-ms"]), number(&row["relay-cpu-us-per-packet"], 2));
        let _ = writeln!(text, "  {late}  the relay takes {cpu} us of CPU a packet  {}", recorded(row));
    }
}

fn quantiles(value: &Value) -> String {
    let [p50, p99, max] = ["p50", "p99", "max"].map(|name| number(&value[name], 3));
    format!("p50 {p50}  p99 {p99}  max {max}")
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or("-".to_owned(), |value| format!("{value:.digits$}"))
}

fn aligned(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            let room = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Words to the left, numbers to the right.
            if at == 0 || at + 1 == columns { format!("{cell}{room}") } else { format!("{room}{cell}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "  {}", line.trim_end());
    }
}
