//! `[buckets]`: how much each key-value bucket may hold.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::component::Component;
use super::section::Section;
use super::suggestion::nearest;
use super::value::{self, InvalidValue, KIB, MIB};
use crate::backend::BucketQuota;

/// From a few small keys to more than one disk has.
const BUCKET_SIZES: RangeInclusive<usize> = KIB..=16 * 1024 * 1024 * MIB;
const BUCKET_KEYS: RangeInclusive<usize> = 1..=1_000_000_000;

/// Reads the quotas, and sets them for every component that may open the bucket. Warns about a bucket that none may.
pub fn read_quotas(section: &Section<'_>, components: &mut BTreeMap<String, Component>) {
    let granted = components.values().flat_map(|component| component.grants.buckets.keys());
    let granted: BTreeSet<String> = granted.cloned().collect();
    for entry in section.entries() {
        let name = section.name_of(entry.key);
        if let Err(invalid) = value::check_bucket(entry.key) {
            section.report_name(&entry, invalid);
        } else if !granted.contains(entry.key) {
            let problem = format!("[{name}]: found no component that may open this bucket");
            let advice = match nearest(entry.key, granted.iter().map(String::as_str)) {
                Some(nearest) => format!("did you mean [{}]?", section.name_of(nearest)),
                None => format!("add it to a component: buckets = [{:?}]", entry.key),
            };
            section.problems.warning(entry.key_span.clone(), problem, advice);
        }
        let advice = format!("write [{name}] on a line of its own, and its keys below it");
        let invalid = InvalidValue::new("a table", advice);
        let Some(mut table) = section.table(&name, entry.key_span, entry.value, invalid) else { continue };
        let default = BucketQuota::default();
        let quota = BucketQuota {
            bytes: table.read("size", value::size(BUCKET_SIZES)).map_or(default.bytes, |bytes| bytes as u64),
            keys: table.read("keys", value::count(BUCKET_KEYS)).map_or(default.keys, |keys| keys as u64),
        };
        table.finish();
        let buckets = components.values_mut().filter_map(|component| component.grants.buckets.get_mut(entry.key));
        buckets.for_each(|bucket| *bucket = quota);
    }
}
