//! `testbed plan`: what would be built, and why so.

use link::{HalfLink, Queue};
use topology::Plan;
use topology::plan::{Medium, Node, Program};

use crate::cli::{PlanArguments, PlanFormat};
use crate::loading;
use crate::status::Status;

pub(crate) fn plan(arguments: &PlanArguments) -> anyhow::Result<Status> {
    match loading::load(&arguments.file, &arguments.variation, loading::draw_seed()?)? {
        Ok(plan) => {
            match arguments.format {
                PlanFormat::Human => report::say(&describe(&plan)),
                PlanFormat::Yaml => report::say(&plan.to_yaml()),
            }
            Ok(Status::OK)
        }
        Err(status) => Ok(status),
    }
}

fn describe(plan: &Plan) -> String {
    let mut text = format!("{}: seed {}, timeout {}\n", plan.name(), plan.seed(), plan.timeout());
    text.push_str("\nnetworks\n");
    let networks = plan.networks().iter().map(|network| {
        let medium = match network.medium {
            Medium::Bridge => "kernel bridge",
            Medium::Relay => "relay",
            Medium::Netem => "netem",
        };
        let subnet = format!("{}/{}", network.subnet.base, network.subnet.prefix);
        [network.name.clone(), subnet, format!("mtu {}", network.mtu), medium.to_owned(), network.why.clone()]
    });
    aligned(&mut text, networks.collect());
    text.push_str("\nnodes\n");
    let nodes = plan.nodes().iter().flat_map(node_rows);
    aligned(&mut text, nodes.collect());
    if !plan.pairs().is_empty() {
        text.push_str("\npairs\n");
        let pairs = plan.pairs().iter().map(|pair| {
            let ends = format!("{} -> {}", plan.node(pair.from).name, plan.node(pair.to).name);
            [ends, half(&pair.link)]
        });
        aligned(&mut text, pairs.collect());
    }
    section(&mut text, "events", plan.events().iter().map(|event| &event.label));
    section(&mut text, "expectations", plan.expectations().iter().map(|expectation| &expectation.label));
    text
}

fn node_rows(node: &Node) -> Vec<[String; 5]> {
    let program = match &node.program {
        Program::Role(role) => role.name().to_owned(),
        Program::Run(words) => words.join(" "),
    };
    let rows = node.interfaces.iter().enumerate().map(|(index, interface)| {
        let (name, program) =
            if index == 0 { (node.name.clone(), program.clone()) } else { <(String, String)>::default() };
        let address = format!("{} {}", interface.name, interface.address);
        let (up, down) = (half(&interface.link.up), half(&interface.link.down));
        [name, program, address, format!("up: {up}"), format!("down: {down}")]
    });
    rows.collect()
}

/// A half link in words, its queue included.
fn half(half: &HalfLink) -> String {
    if half.is_transparent() {
        return "unimpaired".to_owned();
    }
    let mut words = Vec::new();
    words.extend(half.rate.map(|rate| rate.to_string()));
    if !half.delay.is_zero() {
        words.push(format!("delay {}", half.delay));
    }
    if !half.jitter.is_zero() {
        words.push(format!("jitter {}", half.jitter));
    }
    if half.loss != machine::Ratio::ZERO {
        words.push(format!("loss {}", half.loss));
    }
    if half.rate.is_some() {
        words.push(match half.queue_limit() {
            Queue::Bytes(size) => format!("queue {size}"),
            Queue::Packets(packets) => format!("queue {packets} packets"),
        });
    }
    words.join(", ")
}

fn section<'a>(text: &mut String, title: &str, lines: impl Iterator<Item = &'a String>) {
    let lines: Vec<_> = lines.collect();
    if !lines.is_empty() {
        text.push_str(&format!("\n{title}\n"));
        lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
}

fn aligned<const N: usize>(text: &mut String, rows: Vec<[String; N]>) {
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!(" {cell:width$} "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
