//! Every topology of the repository is right by the schema too, so that an editor does not complain about it; and a
//! wrong field is not.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Why `value` is not right by `schema`; the keywords that our schema uses, and no others.
fn check(value: &Value, schema: &Value, root: &Value, path: &str) -> Result<(), String> {
    let Value::Object(keywords) = schema else { return Ok(()) };
    for (keyword, argument) in keywords {
        match keyword.as_str() {
            "$ref" => {
                let pointer = argument.as_str().unwrap().trim_start_matches('#');
                check(value, root.pointer(pointer).expect("the definition exists"), root, path)?;
            }
            "anyOf" => {
                let tries: Vec<_> =
                    argument.as_array().unwrap().iter().map(|form| check(value, form, root, path)).collect();
                if tries.iter().all(Result::is_err) {
                    let reasons: Vec<String> = tries.into_iter().filter_map(Result::err).collect();
                    return Err(format!("{path}: no form fits: {}", reasons.join("; ")));
                }
            }
            "type" => {
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                let allowed = argument.as_array().cloned().unwrap_or_else(|| vec![argument.clone()]);
                let fits = |name: &Value| name == kind || (name == "number" && kind == "integer");
                if !allowed.iter().any(fits) {
                    return Err(format!("{path}: {kind} instead of {argument}"));
                }
            }
            "enum" if !argument.as_array().unwrap().contains(value) => {
                return Err(format!("{path}: not in {argument}"));
            }
            "const" if argument != value => return Err(format!("{path}: not {argument}")),
            "required" => {
                let missing =
                    argument.as_array().unwrap().iter().find(|key| value.get(key.as_str().unwrap()).is_none());
                if let (Some(key), true) = (missing, value.is_object()) {
                    return Err(format!("{path}: {key} is missing"));
                }
            }
            "additionalProperties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    let path = format!("{path}.{key}");
                    match keywords.get("properties").and_then(|properties| properties.get(key)) {
                        Some(property) => check(item, property, root, &path)?,
                        None if *argument == Value::Bool(false) => return Err(format!("{path} is unknown")),
                        None => check(item, argument, root, &path)?,
                    }
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, argument, root, &format!("{path}.{index}"))?;
                }
            }
            "minimum" if value.as_f64().is_some_and(|found| found < argument.as_f64().unwrap()) => {
                return Err(format!("{path}: below {argument}"));
            }
            "enum" | "const" | "minimum" | "maximum" | "minItems" | "maxLength" | "pattern" | "properties"
            | "description" | "title" | "$schema" | "$defs" => {}
            other => panic!("the test does not know the keyword {other}"),
        }
    }
    Ok(())
}

#[test]
fn every_topology_is_right_by_the_schema() {
    let schema = topology::schema();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topologies");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let value: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            check(&value, &schema, &schema, "").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            checked += 1;
        }
    }
    assert!(checked >= 4, "only {checked} topologies");
}

#[test]
fn a_wrong_form_is_wrong_by_the_schema_too() {
    let schema = topology::schema();
    for wrong in [
        "{name: a, nodes: {a: {run: [x], coutn: 4}}}",
        "{name: a, nodes: {a: {role: file-server, watch: b}}}",
        "{name: a, nodes: {a: {run: [x]}}, events: [{at: 1s, kil: a}]}",
        "{name: a, nodes: {a: {run: [x], count: 0}}}",
        "{nodes: {a: {run: [x]}}}",
    ] {
        let value: Value = serde_yaml::from_str(wrong).unwrap();
        assert!(check(&value, &schema, &schema, "").is_err(), "{wrong}");
    }
}
