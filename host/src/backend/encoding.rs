//! Encodes a row as bytes: first the head, which does not change except for `admitted`, then the attributes of the
//! shared store. A row that is saved has the attributes of the named stores after these, if it has any; version 0.1
//! neither wrote nor reads them.
//!
//! Numbers are little-endian. Every text follows its length, so a text may contain any character.

use std::sync::Arc;

use super::Row;
use crate::connections::{Peer, PeerApiKey};
use crate::event::Field;
use crate::id::{ConnectionId, StageId};

const LENGTH_BYTES: usize = size_of::<u32>();
/// Offset of `admitted`, which follows the length of the head.
const ADMITTED_AT: usize = LENGTH_BYTES;
const STAGE_AT: usize = ADMITTED_AT + 1;

/// Encodes a row of the stage with the name `stage`.
pub fn encode(row: &Row, stage: &str) -> Arc<[u8]> {
    let mut bytes = vec![0; LENGTH_BYTES];
    bytes.push(row.admitted.into());
    push_text(&mut bytes, stage);
    bytes.extend_from_slice(&row.connected_at.to_le_bytes());
    push_text(&mut bytes, &row.peer.source_ip);
    push_optional(&mut bytes, row.peer.user_agent.as_deref());
    push_text(&mut bytes, &row.peer.domain_name);
    push_fields(&mut bytes, &row.peer.authorizer);
    push_optional(&mut bytes, row.peer.user.as_deref());
    push_optional(&mut bytes, row.peer.api_key.as_ref().map(|key| &*key.id));
    let head = encode_length(bytes.len());
    bytes[..LENGTH_BYTES].copy_from_slice(&head);
    push_fields(&mut bytes, &row.attributes);
    bytes.into()
}

/// Returns the same row with `admitted` set. `None` if the bytes are not a row.
pub fn with_admitted(row: &[u8]) -> Option<Arc<[u8]>> {
    let mut bytes = row.to_vec();
    *bytes.get_mut(ADMITTED_AT)? = true.into();
    Some(bytes.into())
}

/// Returns the name of the row's stage. `None` if the bytes are not a row.
pub fn stage(row: &[u8]) -> Option<&str> {
    let mut rest = Reader(row.get(STAGE_AT..)?);
    let length = rest.length()?;
    str::from_utf8(rest.0.get(..length)?).ok()
}

/// Appends the attributes of the named stores, each as [`encode_attributes`] returns them.
pub fn with_stores<'a>(row: &[u8], stores: impl ExactSizeIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut bytes = row.to_vec();
    if stores.len() > 0 {
        bytes.extend_from_slice(&encode_length(stores.len()));
        for (name, attributes) in stores {
            push_text(&mut bytes, name);
            bytes.extend_from_slice(attributes);
        }
    }
    bytes
}

/// The attributes of a named store of one row.
pub type StoreAttributes = (String, Vec<Field>);

/// Splits a saved row into the row without its named stores, and the attributes of these. `None` if the bytes are not
/// a row.
pub fn split_stores(saved: &[u8]) -> Option<(&[u8], Vec<StoreAttributes>)> {
    let mut rest = Reader(split(saved)?.1);
    rest.fields()?;
    let row = &saved[..saved.len() - rest.0.len()];
    let count = if rest.0.is_empty() { 0 } else { rest.length()? };
    let stores = (0..count).map(|_| Some((rest.text()?, rest.fields()?))).collect::<Option<_>>()?;
    Some((row, stores))
}

pub fn encode_attributes(attributes: &[Field]) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    push_fields(&mut bytes, attributes);
    bytes.into()
}

/// Decodes what [`encode_attributes`] returned. `None` if the bytes are something else.
pub fn decode_attributes(bytes: &[u8]) -> Option<Vec<Field>> {
    Reader(bytes).fields()
}

/// Returns the same row with other attributes. `None` if the bytes are not a row.
pub fn with_attributes(row: &[u8], attributes: &[Field]) -> Option<Arc<[u8]>> {
    let mut bytes = split(row)?.0.to_vec();
    push_fields(&mut bytes, attributes);
    Some(bytes.into())
}

/// Returns the attributes of the row. `None` if the bytes are not a row.
pub fn attributes(row: &[u8]) -> Option<Vec<Field>> {
    Reader(split(row)?.1).fields()
}

/// Decodes a row of this stage. `None` if the bytes are not a row.
pub fn decode(id: ConnectionId, stage: StageId, row: &[u8]) -> Option<Row> {
    let (head, attributes) = split(row)?;
    let mut head = Reader(&head[LENGTH_BYTES..]);
    let [admitted] = head.take()?;
    head.text()?;
    let connected_at = u64::from_le_bytes(head.take()?);
    let source_ip = head.text()?;
    let user_agent = head.optional()?;
    let (domain_name, authorizer, user) = (head.text()?, head.fields()?, head.optional()?);
    let api_key = head.optional()?.map(|id| PeerApiKey::id_only(&id));
    let peer = Peer { source_ip, user_agent, domain_name, authorizer, user, api_key };
    Some(Row { id, stage, connected_at, admitted: admitted != 0, peer, attributes: Reader(attributes).fields()? })
}

/// Splits a row into its head and its attributes.
fn split(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = Reader(row).length()?;
    if head < LENGTH_BYTES { None } else { row.split_at_checked(head) }
}

fn push_fields(bytes: &mut Vec<u8>, fields: &[Field]) {
    bytes.extend_from_slice(&encode_length(fields.len()));
    for (name, value) in fields {
        push_text(bytes, name);
        push_text(bytes, value);
    }
}

fn push_optional(bytes: &mut Vec<u8>, text: Option<&str>) {
    bytes.push(text.is_some().into());
    push_text(bytes, text.unwrap_or_default());
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&encode_length(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

fn encode_length(length: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(length).expect("every part of a row is smaller than 4 GiB").to_le_bytes()
}

/// The bytes that are not decoded yet. Each method removes the value that it returns from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take()?)).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.length()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(std::str::from_utf8(text).ok()?.to_owned())
    }

    fn optional(&mut self) -> Option<Option<String>> {
        let [is_some] = self.take()?;
        self.text().map(|text| (is_some != 0).then_some(text))
    }

    fn fields(&mut self) -> Option<Vec<Field>> {
        let count = self.length()?;
        (0..count).map(|_| Some((self.text()?, self.text()?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    const STAGE: StageId = StageId::NONE;

    fn row(user_agent: Option<&str>, attributes: &[(&str, &str)]) -> Row {
        let field = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let peer = Peer {
            source_ip: "::1".to_owned(),
            user_agent: user_agent.map(str::to_owned),
            domain_name: String::new(),
            authorizer: vec![field(&("principal", "ü\0")), field(&("", ""))],
            user: user_agent.map(str::to_owned),
            api_key: user_agent.map(PeerApiKey::id_only),
        };
        let attributes = attributes.iter().map(field).collect();
        let id = ConnectionId::random(NodeId(0));
        Row { id, stage: STAGE, connected_at: 7, admitted: false, peer, attributes }
    }

    #[test]
    fn an_encoded_row_decodes_to_the_same_row() {
        for row in [row(None, &[]), row(Some(""), &[("a", "")]), row(Some("curl"), &[("a", "b"), ("a", "c\u{1f600}")])]
        {
            let bytes = encode(&row, "dev");
            assert_eq!(decode(row.id, STAGE, &bytes), Some(row.clone()));
            assert_eq!(attributes(&bytes), Some(row.attributes));
        }
    }

    #[test]
    fn changing_the_attributes_leaves_the_rest_of_a_row_unchanged() {
        let before = row(Some("curl"), &[("room", "general")]);
        let after = Row { attributes: vec![("room".to_owned(), "random".to_owned())], ..before.clone() };
        assert_eq!(with_attributes(&encode(&before, "dev"), &after.attributes), Some(encode(&after, "dev")));
    }

    #[test]
    fn admitting_a_row_leaves_the_rest_of_it_unchanged() {
        let before = row(None, &[("room", "general")]);
        let after = Row { admitted: true, ..before.clone() };
        assert_eq!(with_admitted(&encode(&before, "dev")), Some(encode(&after, "dev")));
        assert_eq!(stage(&encode(&before, "dev")), Some("dev"));
    }

    #[test]
    fn a_truncated_row_does_not_decode() {
        let row = row(Some("curl"), &[("room", "general")]);
        let bytes = encode(&row, "dev");
        assert!((0..bytes.len()).all(|length| decode(row.id, STAGE, &bytes[..length]).is_none()));
        assert!((0..bytes.len()).all(|length| split_stores(&bytes[..length]).is_none()));
        let attributes = encode_attributes(&row.attributes);
        let saved = with_stores(&bytes, [("moderation", &*attributes), ("presence", &*attributes)].into_iter());
        assert!((bytes.len() + 1..saved.len()).all(|length| split_stores(&saved[..length]).is_none()));
    }

    #[test]
    fn a_saved_row_has_the_attributes_of_its_named_stores() {
        let row = row(None, &[("room", "general")]);
        let bytes = encode(&row, "dev");
        assert_eq!(with_stores(&bytes, [].into_iter()), *bytes, "without named stores it is as version 0.1 wrote it");
        assert_eq!(split_stores(&bytes), Some((&*bytes, vec![])));
        let attributes = vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
        let encoded = encode_attributes(&attributes);
        assert_eq!(decode_attributes(&encoded), Some(attributes.clone()));
        let saved = with_stores(&bytes, [("moderation", &*encoded)].into_iter());
        assert_eq!(split_stores(&saved), Some((&*bytes, vec![("moderation".to_owned(), attributes)])));
        // Version 0.1 decodes the row without its named stores.
        assert_eq!(decode(row.id, STAGE, &saved), Some(row));
    }

    #[test]
    fn a_row_of_version_0_1_decodes() {
        let text = |text: &str| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat();
        let optional = |some: Option<&str>| [vec![some.is_some().into()], text(some.unwrap_or_default())].concat();
        let number = |number: u32| number.to_le_bytes().to_vec();
        let head = [
            vec![1],
            text("prod"),
            1_700_000_000_000_u64.to_le_bytes().to_vec(),
            text("203.0.113.7"),
            optional(Some("curl/8")),
            text("example.com"),
            [number(1), text("principalId"), text("alice")].concat(),
            optional(None),
            optional(Some("team")),
        ]
        .concat();
        let length = number(u32::try_from(LENGTH_BYTES + head.len()).unwrap());
        let saved = [length, head, number(1), text("room"), text("general")].concat();

        let id = ConnectionId::random(NodeId(0));
        let peer = Peer {
            source_ip: "203.0.113.7".to_owned(),
            user_agent: Some("curl/8".to_owned()),
            domain_name: "example.com".to_owned(),
            authorizer: vec![("principalId".to_owned(), "alice".to_owned())],
            user: None,
            api_key: Some(PeerApiKey::id_only("team")),
        };
        let attributes = vec![("room".to_owned(), "general".to_owned())];
        let row = Row { id, stage: STAGE, connected_at: 1_700_000_000_000, admitted: true, peer, attributes };
        assert_eq!(stage(&saved), Some("prod"));
        assert_eq!(split_stores(&saved), Some((&*saved, vec![])));
        assert_eq!(decode(id, STAGE, &saved), Some(row.clone()));
        assert_eq!(*encode(&row, "prod"), saved);
    }
}
