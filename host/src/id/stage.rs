//! Small numbers for stages, so that connections, rows and throttles compare numbers instead of names.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// An API of this process. A process serves one manifest, which describes one API, so there is only API 0.
///
/// This is not the `id` of the manifest, which a reload can change while connections are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ApiNumber(pub u16);

/// One stage of one API. The number is valid only in the process that created it; what is stored has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StageId(u32);

impl StageId {
    /// No stage: no connection and no row of a stage has it.
    pub const NONE: Self = Self(0);
}

impl Default for StageId {
    fn default() -> Self {
        Self::NONE
    }
}

/// Gives each stage its number, and keeps it: a stage that a reload removes and another one adds again has the same
/// number. Its size is limited by the stages that manifests have named since the start.
#[derive(Default)]
pub struct StageNames {
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    ids: HashMap<(ApiNumber, Arc<str>), StageId>,
    /// The names of the stages from `StageId(1)` on.
    names: Vec<Arc<str>>,
}

impl StageNames {
    /// Returns the number of a stage; the first call for a stage creates it.
    pub fn id(&self, api: ApiNumber, name: &str) -> StageId {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let key = (api, Arc::from(name));
        if let Some(id) = table.ids.get(&key) {
            return *id;
        }
        table.names.push(Arc::clone(&key.1));
        let id = StageId(u32::try_from(table.names.len()).expect("manifests name fewer than 2^32 stages"));
        table.ids.insert(key, id);
        id
    }

    /// Returns all stages that have a number.
    pub fn all(&self) -> Vec<StageId> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.ids.values().copied().collect()
    }

    /// Returns the name of a stage; the empty text for [`StageId::NONE`].
    pub fn name(&self, id: StageId) -> Arc<str> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let index = (id.0 as usize).checked_sub(1);
        index.and_then(|index| table.names.get(index)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_keeps_its_number_and_stages_of_different_apis_are_different() {
        let stages = StageNames::default();
        let names = [(ApiNumber(0), "dev"), (ApiNumber(0), "prod"), (ApiNumber(1), "dev"), (ApiNumber(0), "")];
        let ids = names.map(|(api, name)| stages.id(api, name));
        assert_eq!(names.map(|(api, name)| stages.id(api, name)), ids);
        for (index, id) in ids.iter().enumerate() {
            assert_ne!(*id, StageId::NONE);
            assert!(!ids[..index].contains(id));
            assert_eq!(&*stages.name(*id), names[index].1);
        }
        assert_eq!(&*stages.name(StageId::NONE), "");
    }
}
