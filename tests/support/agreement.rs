//! Whether a driver of links agrees with the model, as `testbed bench link` has measured it.

use serde_json::Value;

/// Every one of these rows was measured, and none strays. The bench measures a row that strays again until nothing disturbs
/// it. Where this machine did not keep up in any of many attempts, only what slowness leaves as it is counts; and where it
/// lost packets by itself, nothing of that row.
pub(crate) fn assert_agreement(rows: &Value, names: &[&str]) {
    let rows = rows.as_array().expect("rows");
    let measured: Vec<&str> = rows.iter().filter_map(|row| row["row"].as_str()).collect();
    assert_eq!(measured, names);
    let (mut wrong, mut busy) = (Vec::new(), Vec::new());
    for row in rows {
        let name = row["row"].as_str().unwrap_or_default();
        println!("{name}: {}", row["figures"]);
        let kept_up = row["kept-up"] == true;
        if !kept_up {
            busy.push(name);
        }
        for stray in row["strays"].as_array().expect("strays") {
            let counts = row["own-losses"] == 0 && stray["withstands-slowness"] == true;
            if kept_up || counts {
                wrong.push(format!(
                    "{name}: {} (timer {}, {} attempts)",
                    stray["why"], row["timer-ms"], row["attempts"]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    if !busy.is_empty() {
        eprintln!("STARVED: delays and rates of these rows prove nothing: {busy:?}");
    }
}
