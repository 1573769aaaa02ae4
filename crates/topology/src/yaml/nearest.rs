//! "Did you mean …?"

/// The known name that a person most probably meant by `found`, if any is near enough.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found: Vec<char> = found.to_lowercase().chars().take(MAX_LENGTH).collect();
    let bound = (found.len() / 3).max(1);
    known
        .into_iter()
        .map(|name| (distance(&found, &name.chars().take(MAX_LENGTH).collect::<Vec<_>>()), name))
        .filter(|(distance, name)| *distance <= bound || (*distance <= 2 && name.len() > 3))
        // Of those that are equally near, one with the same letters and digits: `server2` is `server-2`, not `server`.
        .min_by_key(|(distance, name)| (*distance, !same_but_for_punctuation(&found, name)))
        .map(|(_, name)| name)
}

fn same_but_for_punctuation(found: &[char], name: &str) -> bool {
    let kept = |c: &char| c.is_alphanumeric();
    found.iter().copied().filter(kept).eq(name.chars().filter(kept))
}

/// Names are at most 63 characters; what a file gives instead of one may be a megabyte.
const MAX_LENGTH: usize = 64;

/// Insertions, deletions, substitutions and swaps of neighbours between the two (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["server", "check", "client", "server-2"];
        assert_eq!(nearest("sever", known), Some("server"));
        assert_eq!(nearest("serevr", known), Some("server"));
        assert_eq!(nearest("Client", known), Some("client"));
        assert_eq!(nearest("server-3", known), Some("server-2"));
        assert_eq!(nearest("server2", known), Some("server-2"));
        assert_eq!(nearest("server_2", known), Some("server-2"));
        assert_eq!(nearest("tracker", known), None);
        assert_eq!(nearest("", known), None);
    }
}
