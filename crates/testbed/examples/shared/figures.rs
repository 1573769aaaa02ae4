//! Medians, and how a table shows them.

/// The middle one of what was measured; of an even number the upper one of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let values = sorted(values);
    values.get(values.len() / 2).copied()
}

/// From the least to the greatest.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

/// A figure, or a dash where there is none.
pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// What stands behind a figure that is beyond its target.
pub(crate) fn mark(value: Option<f64>, most: Option<f64>) -> &'static str {
    match value.zip(most) {
        Some((value, most)) if value > most => " MISSED",
        _ => "",
    }
}
