//! The file format as JSON Schema (draft 2020-12), for editors that check and complete YAML while it is typed.
//!
//! It describes the form; what only a look at the whole file can tell (names that exist, cycles, addresses) is for
//! [`load`](crate::load).

use serde_json::{Map, Value, json};

use crate::roles::{ROLES, RUN};
use crate::sweep::METRICS;

/// The schema.
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Topology",
        "description": "A network on one machine, the programs in it, what is done to them, and what must hold.",
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "nodes"],
        "properties": {
            "name": reference("name"),
            "seed": { "type": "integer", "minimum": 0, "description": "The run's one seed. Absent: drawn and printed." },
            "timeout": described("span", "The run's wall limit; 5min unless given."),
            "shaper": { "enum": ["auto", "netem", "relay"] },
            "files": map_of("file"),
            "links": map_of("link"),
            "networks": map_of("network"),
            "pairs": list_of("pair"),
            "nodes": map_of("node"),
            "events": list_of("event"),
            "expect": map_of("expectation"),
            "sweep": {
                "type": "object",
                "description": "Dotted paths, each with the values it takes.",
                "additionalProperties": { "type": "array", "items": reference("scalar") }
            },
            "repeat": { "type": "integer", "minimum": 1, "description": "How often each point of the sweep is run." },
            "plot": object(json!({
                "x": { "type": "string", "description": "One of the swept paths; the first unless given." },
                "y": {
                    "description": "What is drawn; all that there is unless given.",
                    "anyOf": [
                        { "enum": METRICS },
                        { "type": "array", "items": { "enum": METRICS } },
                    ]
                },
            }), &[]),
        },
        "$defs": definitions(),
    })
}

fn definitions() -> Value {
    let mut definitions = quantities();
    for part in [links(), nodes(), course()] {
        let Value::Object(part) = part else { unreachable!("each part is written as an object") };
        definitions.extend(part);
    }
    Value::Object(definitions)
}

fn quantities() -> Map<String, Value> {
    let quantity = |text: &str| json!({ "type": ["string", "number"], "description": text });
    let Value::Object(map) = json!({
        "name": { "type": "string", "pattern": "^[a-z][a-z0-9-]*$", "maxLength": 63 },
        "scalar": { "type": ["string", "number", "boolean"] },
        "span": quantity("A length of time: 250us, 5ms, 1.5s, 2min, 1h."),
        "rate": quantity("Bits per second: 56kbit, 100Mbit, 1Gbit."),
        "size": quantity("Bytes: 64KiB, 10MB, 4096."),
        "ratio": quantity("A share between 0 and 1: 2%, 0.02."),
        "names": {
            "description": "A node, a group of nodes, or a list of them.",
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        },
        "ip": { "type": "string", "description": "An IPv4 or IPv6 address." },
    }) else {
        unreachable!("written as an object")
    };
    map
}

fn half_fields() -> Value {
    json!({
        "rate": described("rate", "Ethernet bytes without FCS; absent is unlimited."),
        "delay": described("span", "One way."),
        "jitter": described("span", "Uniform in ± this; keeps the order unless `reorder` is given."),
        "loss": described("ratio", "Share of the packets lost, each independently."),
        "burst": object(json!({
            "p": described("ratio", "From the good to the bad state, per packet."),
            "r": described("ratio", "Back to the good state, per packet."),
            "good": described("ratio", "Lost in the good state; 0 unless given."),
            "bad": described("ratio", "Lost in the bad state; 1 unless given."),
        }), &["p", "r"]),
        "drop": { "type": "array", "description": "Packets lost for certain: 7 or 7-9.", "items": reference("scalar") },
        "reorder": described("ratio", "Share of the packets that overtake others, leaving out the delay."),
        "duplicate": described("ratio", "Share of the packets sent twice."),
        "corrupt": described("ratio", "Share of the packets with one bit flipped."),
        "queue": {
            "type": ["string", "integer"],
            "description": "The rate's queue, 64KiB, or packets as 100 or 100p; absent is sized from rate × delay."
        },
        "trace": { "type": "string", "description": "In the place of a rate: a file of delivery times in mahimahi's format, relative to this one; it repeats." },
    })
}

fn links() -> Value {
    let mut link = half_fields();
    link["up"] = described("half", "Leaving the node.");
    link["down"] = described("half", "Reaching the node.");
    let mut link = object(link, &[]);
    link["description"] = json!("`up` and `down`, or the fields of a half for both alike.");
    json!({
        "half": object(half_fields(), &[]),
        "link": link,
        "link-or-name": { "anyOf": [{ "type": "string" }, reference("link")] },
        "network": {
            "anyOf": [
                { "type": "null" },
                object(json!({
                    "subnet": { "type": "string", "description": "10.50.0.0/24 or fd00::/64; absent, a free one." },
                    "mtu": { "type": "integer", "minimum": 576, "maximum": 65535 },
                }), &[])
            ]
        },
        "pair": object(json!({
            "from": reference("names"),
            "to": reference("names"),
            "link": described("half", "On top of the links of both ends."),
        }), &["from", "to", "link"]),
        "file": object(json!({
            "size": described("size", "Bytes derived from the seed."),
            "path": { "type": "string", "description": "An existing file, relative to this one." },
        }), &[]),
    })
}

fn common_fields() -> Value {
    json!({
        "count": { "type": "integer", "minimum": 1, "description": "Makes name-1, name-2, …" },
        "link": reference("link-or-name"),
        "ip": reference("ip"),
        "networks": {
            "type": "object",
            "additionalProperties": {
                "anyOf": [
                    { "type": "null" },
                    object(json!({ "link": reference("link-or-name"), "ip": reference("ip") }), &[])
                ]
            }
        },
        "env": { "type": "object", "additionalProperties": reference("scalar") },
        "files": {
            "description": "Put into the node's disk before its first start.",
            "anyOf": [
                { "type": "array", "items": { "type": "string" } },
                { "type": "object", "additionalProperties": { "type": "string" } }
            ]
        },
        "ready": object(json!({
            "tcp": { "type": "integer", "minimum": 1, "maximum": 65535, "description": "Something listens there." },
            "log": { "type": "string", "description": "Its output matches this regular expression." },
            "file": { "type": "string", "description": "This path in its disk exists." },
        }), &[]),
        "after": described("names", "Starts when these are ready."),
        "user": { "enum": ["root"] },
        "place": reference("scalar"),
        "stop-grace": described("span", "Between TERM and KILL; 5s unless given."),
    })
}

/// The schema of a field that one or several roles add.
fn own_field(name: &str) -> Value {
    match name {
        "run" => {
            json!({ "type": "array", "items": reference("scalar"), "minItems": 1, "description": "A program's words." })
        }
        "file" | "image" | "check" | "out" | "tracker" => json!({ "type": "string" }),
        "from" | "watch" | "to" => reference("names"),
        "rate" => reference("rate"),
        "interval" => reference("span"),
        "timeout" => described("span", "Until a segment is sent again; 1s where `timeout-mode` wants one."),
        "timeout-mode" => json!({
            "enum": ["adaptive", "fixed", "shared"],
            "description": "As the round trips suggest (unless `timeout` is given), or a timer for each receiver or for all."
        }),
        "give-up" => described("span", "A receiver that is silent for this long is dropped; 30s unless given."),
        "ports" => {
            json!({ "type": "integer", "minimum": 0, "maximum": 99, "description": "Beside the fixed one; 31 unless given." })
        }
        "churn" => {
            described("span", "How often another port appears and one is retired; 30s unless given, 0s is never.")
        }
        "block-size" => described("size", "10000 unless given."),
        "pre-delay" => described("span", "From a request until the first byte of its answer; 1s unless given."),
        "bytes-per-event" => described("size", "What leaves at once on a connection; 1000 unless given."),
        "stretch" => {
            described("span", "The slowest pace between two such events; 10ms unless given, 200ms in test mode.")
        }
        "idle" => described("span", "A connection on which nothing happens for so long is closed; 1min unless given."),
        "resume" | "multicast" | "close-random" => json!({ "type": "boolean" }),
        "mss" => described(
            "size",
            "The most data in a segment, 1 to 65499 bytes; unless given 1400, or in fast mode what passes.",
        ),
        "mode" => json!({ "enum": ["stop-and-wait", "fast"], "description": "stop-and-wait unless given." }),
        "corrupt" => described("ratio", "Share of the blocks it sends that have one bit flipped, under true hashes."),
        "p" => described("ratio", "Share of the segments that the receiver itself drops."),
        "max-connections" => json!({ "type": "integer", "minimum": 1 }),
        _ => json!(true),
    }
}

fn nodes() -> Value {
    let mut forms = Vec::new();
    for kind in ROLES.iter().chain([&RUN]) {
        let mut properties = common_fields();
        let mut required = vec!["run"];
        if kind.name != RUN.name {
            properties["role"] = json!({ "const": kind.name });
            required = vec!["role"];
        }
        for field in (kind.fields)() {
            properties[*field] = own_field(field);
        }
        forms.push(object(properties, &required));
    }
    json!({ "node": { "anyOf": forms } })
}

fn course() -> Value {
    let fault = |text| described("names", text);
    json!({
        "event": object(json!({
            "at": described("span", "After all nodes have started."),
            "after": described("span", "After the entry above is carried out: what it ends has ended."),
            "when": { "type": "string", "description": "client >= 40%, client >= 10MiB, or web prints /regex/." },
            "kill": fault("KILL; the kernel still closes the sockets."),
            "crash": fault("Links cut first, so nothing leaks out: a dead machine."),
            "stop": fault("TERM, grace, KILL."),
            "pause": fault("Freezes the processes."),
            "resume": fault("Thaws them."),
            "restart": fault("Stop, then start again."),
            "signal": object(json!({ "node": reference("names"), "signal": reference("scalar") }), &["node", "signal"]),
            "revive": fault("Starts again with the same address, links and disk."),
            "disk": { "enum": ["keep", "wipe"] },
            "link": {
                "anyOf": [
                    reference("names"),
                    object(json!({ "node": reference("names"), "network": { "type": "string" } }), &["node", "network"])
                ]
            },
            "set": described("link", "What changes of the link; the rest stays."),
            "partition": {
                "type": "array",
                "minItems": 2,
                "description": "Nodes in different lists cannot reach each other.",
                "items": reference("names")
            },
            "for": described("span", "Undoes it after this long."),
            "optional": { "type": "boolean", "description": "The run may end without it." },
        }), &[]),
        "expectation": object(json!({
            "exit": { "type": "integer", "minimum": 0, "maximum": 255 },
            "state": { "enum": ["running", "paused", "exited", "killed"] },
            "within": described("span", "The exit comes this soon after all have started."),
            "file": { "type": "string", "description": "The node's `out` has the bytes of this file." },
            "wasted": { "type": "string", "description": "\"< 2%\": bytes received beyond the file's size." },
            "throughput": { "type": "string", "description": "\">= 20Mbit\"" },
            "prints": described("names", "A line of output matches this /regex/."),
            "never-prints": described("names", "No line of output matches this /regex/."),
        }), &[]),
    })
}

fn reference(definition: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}") })
}

fn described(definition: &str, text: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{definition}"), "description": text })
}

fn map_of(definition: &str) -> Value {
    json!({ "type": "object", "additionalProperties": reference(definition) })
}

fn list_of(definition: &str) -> Value {
    json!({ "type": "array", "items": reference(definition) })
}

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::spec::{
        self, AttachmentSpec, CommonSpec, EventSpec, ExpectSpec, FileSpec, HalfSpec, LinkOn, NetworkSpec,
    };
    use crate::yaml::fields_of;

    fn keys(object: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = object.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    fn assert_same<T: for<'de> Deserialize<'de>>(properties: &Value) {
        let mut fields = fields_of::<T>().to_vec();
        fields.sort_unstable();
        assert_eq!(keys(properties), fields, "{}", std::any::type_name::<T>());
    }

    #[test]
    fn every_field_of_the_format_is_in_the_schema_and_the_other_way_round() {
        let schema = schema();
        let mut fields = spec::FIELDS.to_vec();
        fields.sort_unstable();
        assert_eq!(keys(&schema["properties"]), fields);
        let defs = &schema["$defs"];
        assert_same::<HalfSpec>(&defs["half"]["properties"]);
        assert_same::<spec::LinkFields>(&defs["link"]["properties"]);
        assert_same::<link::Burst>(&defs["half"]["properties"]["burst"]["properties"]);
        assert_same::<NetworkSpec>(&defs["network"]["anyOf"][1]["properties"]);
        assert_same::<spec::PairSpec>(&defs["pair"]["properties"]);
        assert_same::<FileSpec>(&defs["file"]["properties"]);
        assert_same::<EventSpec>(&defs["event"]["properties"]);
        assert_same::<spec::SignalSpec>(&defs["event"]["properties"]["signal"]["properties"]);
        assert_same::<LinkOn>(&defs["event"]["properties"]["link"]["anyOf"][1]["properties"]);
        assert_same::<ExpectSpec>(&defs["expectation"]["properties"]);
        assert_same::<spec::PlotSpec>(&schema["properties"]["plot"]["properties"]);
        let common = common_fields();
        assert_same::<CommonSpec>(&common);
        assert_same::<AttachmentSpec>(&common["networks"]["additionalProperties"]["anyOf"][1]["properties"]);
        assert_same::<spec::ReadySpec>(&common["ready"]["properties"]);
        for kind in ROLES.iter().chain([&RUN]) {
            for field in (kind.fields)() {
                assert_ne!(own_field(field), json!(true), "{}: `{field}` has no schema", kind.name);
                assert!(common.get(*field).is_none(), "{}: `{field}` is also a field of every node", kind.name);
            }
        }
    }
}
