//! Names of the attributes of a row in the index.

use super::super::super::encoding;
use crate::event::Field;

/// Names an attribute of a store. The lengths keep `("ab", "c")` and `("a", "bc")` apart.
pub fn index_name(store: &str, (name, value): &Field) -> String {
    format!("{}:{store}{}:{name}{value}", store.len(), name.len())
}

/// Names all attributes of a saved row, in all stores. `None` if the bytes are no row.
pub fn index_names(saved: &[u8]) -> Option<Vec<String>> {
    let (row, stores) = encoding::split_stores(saved)?;
    let shared = (String::new(), encoding::attributes(row)?);
    let stores = std::iter::once(shared).chain(stores);
    Some(
        stores
            .flat_map(|(store, attributes)| attributes.into_iter().map(move |attribute| index_name(&store, &attribute)))
            .collect(),
    )
}
