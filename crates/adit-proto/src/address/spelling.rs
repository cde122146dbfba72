//! Spelling: the known word somebody most likely meant.

/// Longest word that is compared at all; no known word is near to a longer one.
const WORD_BYTES_MAX: usize = 40;

/// The known word that is at most two typing errors away, if there is one nearest.
///
/// ```
/// use adit_proto::address::nearest;
/// assert_eq!(nearest("ehco", ["echo", "chat"].into_iter()), Some("echo"));
/// ```
pub fn nearest(word: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let most = if word.chars().count() <= 3 { 1 } else { 2 };
    known
        .map(|known| (typing_errors(&word, known), known))
        .filter(|(errors, _)| *errors <= most)
        .min()
        .map(|(_, known)| known)
}

/// Letters added, left out, mistaken or swapped with their neighbour.
fn typing_errors(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut last = None;
    for (index, left) in left.chars().enumerate() {
        let mut next = vec![index.saturating_add(1)];
        for (at, letter) in right.iter().enumerate() {
            let here = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX);
            let same = usize::from(*letter != left);
            let mut best = here(&row, at).saturating_add(same);
            best = best.min(here(&row, at.saturating_add(1)).saturating_add(1));
            best = best.min(here(&next, at).saturating_add(1));
            let previous = at.checked_sub(1);
            if last == Some(*letter) && previous.and_then(|at| right.get(at)) == Some(&left) {
                let swapped = previous.map_or(usize::MAX, |at| here(&before, at));
                best = best.min(swapped.saturating_add(1));
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(left);
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{nearest, typing_errors};

    #[test]
    fn a_swap_counts_once() {
        assert_eq!(typing_errors("tpc", "tcp"), 1);
        assert_eq!(typing_errors("http", "http"), 0);
        assert_eq!(typing_errors("", "tcp"), 3);
        assert_eq!(typing_errors("kitten", "sitting"), 3);
    }

    #[test]
    #[cfg_attr(miri, ignore = "a megabyte takes it minutes")]
    fn short_words_are_not_guessed_at_from_afar() {
        assert_eq!(nearest("xyz", ["tcp"].into_iter()), None);
        assert_eq!(nearest("brodcats", ["broadcast", "ttl"].into_iter()), Some("broadcast"));
        assert_eq!(nearest(&"t".repeat(1_000_000), ["tcp"].into_iter()), None);
    }
}
