//! `testbed plan`: what would be built, and why so.

mod memory;
mod routes;

use fabric::Offload;
use link::{Burst, HalfLink, Queue};
use machine::{Rate, Ratio};
use topology::Plan;
use topology::plan::{Medium, Node, Program};

use crate::cli::{PlanArguments, PlanFormat};
use crate::loading::{self, Kernel};
use crate::status::Status;

pub(crate) fn plan(arguments: &PlanArguments) -> anyhow::Result<Status> {
    let drawn = loading::draw_seed()?;
    match loading::load(&arguments.file, &arguments.variation, drawn, arguments.pcap, Kernel::This)? {
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
    let offloads = fabric::offloads(plan);
    let nodes = plan.nodes().iter().zip(&offloads).flat_map(|(node, offloads)| node_rows(plan, node, offloads));
    aligned(&mut text, nodes.collect());
    if !plan.pairs().is_empty() {
        text.push_str("\npairs\n");
        let pairs = plan.pairs().iter().map(|pair| {
            let ends = format!("{} -> {}", plan.node(pair.from).name, plan.node(pair.to).name);
            [ends, half(&pair.link, None)]
        });
        aligned(&mut text, pairs.collect());
    }
    if plan.is_routed() {
        text.push_str("\nroutes\n");
        aligned(&mut text, routes::rows(plan));
    }
    let memory = memory::lines(plan, &offloads);
    section(&mut text, "memory", memory.iter());
    section(&mut text, "events", plan.events().iter().map(|event| &event.label));
    section(&mut text, "expectations", plan.expectations().iter().map(|expectation| &expectation.label));
    text
}

fn node_rows(plan: &Plan, node: &Node, offloads: &[Offload]) -> Vec<[String; 6]> {
    let program = match &node.program {
        Program::Role(role) => role.name().to_owned(),
        Program::Run { words, .. } => words.join(" "),
    };
    let rows = node.interfaces.iter().zip(offloads).enumerate().map(|(index, (interface, offload))| {
        let (name, program) =
            if index == 0 { (node.name.clone(), program.clone()) } else { <(String, String)>::default() };
        let address = format!("{} {}", interface.name, interface.address);
        let network = plan.network(interface.network);
        let netem_mtu = (network.medium == Medium::Netem).then_some(network.mtu);
        let (up, down) = (half(&interface.link.up, netem_mtu), half(&interface.link.down, netem_mtu));
        let offload = match offload {
            Offload::Whole => "offload",
            Offload::Relay => "offload, cut up by the relay",
            Offload::Off => "no offload",
        };
        [name, program, address, format!("up: {up}"), format!("down: {down}"), offload.to_owned()]
    });
    rows.collect()
}

/// A half link in words, its queue included, and what netem makes of it on a network of its with this MTU.
fn half(half: &HalfLink, netem_mtu: Option<u32>) -> String {
    if half.is_transparent() {
        return "unimpaired".to_owned();
    }
    let mut words = Vec::new();
    words.extend(half.rate.map(|rate| rate.to_string()));
    words.extend(half.trace.as_ref().map(|trace| {
        // To the last bit it would be unreadable.
        let mean = Rate::from_bits_per_sec(trace.mean_rate().as_bits_per_sec() / 1000 * 1000);
        format!("trace {} (mean {mean}, repeats after {})", trace.name(), trace.length())
    }));
    if !half.delay.is_zero() {
        words.push(format!("delay {}", half.delay));
    }
    if !half.jitter.is_zero() {
        words.push(format!("jitter {}", half.jitter));
    }
    for (name, share) in
        [("loss", half.loss), ("reorder", half.reorder), ("duplicate", half.duplicate), ("corrupt", half.corrupt)]
    {
        if share != Ratio::ZERO {
            words.push(format!("{name} {share}"));
        }
    }
    words.extend(half.burst.map(|Burst { p, r, good, bad }| format!("burst p {p} r {r} loses {good} or {bad}")));
    if !half.drop.is_empty() {
        words.push(format!("drop {}", half.drop));
    }
    if half.mean_rate().is_some() {
        words.push(match half.queue_limit() {
            Queue::Bytes(size) => format!("queue {size}"),
            Queue::Packets(packets) => format!("queue {packets} packets"),
        });
    }
    words.extend(netem_mtu.map(|mtu| format!("netem limit {} packets", fabric::netem::limit(half, mtu))));
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
