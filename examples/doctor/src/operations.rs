//! Which labels are of one operation: where each script has a label of its own, one that always fails is to be seen beside
//! the others.

use std::collections::{BTreeMap, HashMap};

use crate::sample::{Results, Sample};
use crate::signs;

/// Fewer labels with an address each are steps rather than one step for several ids.
const LABELS: usize = 5;

/// The operation of each label, by the first label of it.
pub(crate) fn operations(results: &Results, rows: &[&Sample]) -> HashMap<u32, u32> {
    // Each label's only address, and each address's only label.
    let mut address_of: HashMap<u32, Option<u32>> = HashMap::new();
    let mut label_of: HashMap<u32, Option<u32>> = HashMap::new();
    for row in rows {
        let url = address_of.entry(row.label).or_insert(Some(row.url));
        *url = url.filter(|url| *url == row.url);
        let label = label_of.entry(row.url).or_insert(Some(row.label));
        *label = label.filter(|label| *label == row.label);
    }
    let mut by_text: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut by_path: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (label, url) in &address_of {
        by_text.entry(without_ids(results.labels.text(*label), is_id)).or_default().push(*label);
        let only = url.filter(|url| *url > 0 && label_of.get(url).is_some_and(Option::is_some));
        let path = only.map(|url| signs::path(results.urls.text(url)));
        let blank = path.map(|path| (path, without_ids(path, is_id_of_path)));
        if let Some((_, blank)) = blank.filter(|(path, blank)| path != blank) {
            by_path.entry(blank).or_default().push(*label);
        }
    }
    by_path.retain(|_, labels| labels.len() >= LABELS);
    let mut operations = HashMap::new();
    for labels in by_text.values().chain(by_path.values()) {
        let first = labels.iter().min().copied().unwrap_or_default();
        operations.extend(labels.iter().map(|label| (*label, first)));
    }
    operations
}

/// Whether a label tells which script, and not which step.
pub(crate) fn holds_id(label: &str) -> bool {
    without_ids(label, is_id) != label
}

fn without_ids(text: &str, is_id: fn(&str) -> bool) -> String {
    let parts = text.split_inclusive(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
    parts
        .map(|part| {
            let word = part.trim_end_matches(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_')));
            if is_id(word) { format!("#{}", part.get(word.len()..).unwrap_or_default()) } else { part.to_owned() }
        })
        .collect()
}

/// Steps are numbered too, by fewer digits.
fn is_id(word: &str) -> bool {
    let all = |test: fn(&u8) -> bool| word.as_bytes().iter().all(test);
    signs::is_uuid(word)
        || (word.len() >= 4 && all(u8::is_ascii_digit))
        || (word.len() >= 16 && all(u8::is_ascii_hexdigit))
}

fn is_id_of_path(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    is_id(word) || (digits > 0 && (digits == word.len() || word.len() >= 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_blanked_and_the_numbers_of_steps_are_not() {
        let id = "0a1b2c3d-0000-4000-8000-000000000001";
        assert_eq!(without_ids(&format!("GET script {id}"), is_id), "GET script #");
        assert_eq!(without_ids("Step 12: log in", is_id), "Step 12: log in");
        assert_eq!(without_ids(&format!("/api/v2/scripts/{id}/pages/7"), is_id_of_path), "/api/v2/scripts/#/pages/#");
    }
}
