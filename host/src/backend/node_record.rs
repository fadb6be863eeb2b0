//! What each node writes about itself to the store, for operators: with its lease, and for as long as it.

use serde::{Deserialize, Serialize};

use crate::event::EpochMillis;
use crate::id::NodeId;

/// The version of the format. It grows when a field changes its meaning; new fields do not change it, because readers ignore
/// those that they do not know, and have a default for those that are missing.
const FORMAT: u32 = 1;

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeDescription {
    /// The name of the machine.
    pub host: String,
    /// The address of the listener for peers; empty before it listens.
    pub listen: String,
    /// The version of jackfield.
    pub version: String,
    /// The first characters of the hash of the manifest, all components and all models that it serves; empty before it
    /// serves.
    pub content: String,
    /// The first characters of the hash of the manifest that it serves.
    pub manifest: String,
    pub connections: usize,
    /// Whether the node stops, and gets no new connections.
    pub stopping: bool,
}

/// The record of a node in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRecord {
    pub node: u16,
    #[serde(flatten)]
    pub description: NodeDescription,
    /// The rows that the store does not have yet.
    pub unsaved_rows: usize,
    pub lease_millis: u64,
    /// When it was written, by the clock of the node.
    pub written_at: EpochMillis,
    format: u32,
}

/// A node whose lease has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveNode {
    pub record: NodeRecord,
    /// How long ago the lease was renewed. `None` if that is not known, because its record cannot be read.
    pub renewed_millis_ago: Option<u64>,
}

impl NodeRecord {
    pub fn new(node: NodeId, description: NodeDescription) -> Self {
        Self { node: node.0, description, format: FORMAT, ..Self::default() }
    }

    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts are JSON")
    }

    /// Reads the record of a node. Of a format that this version does not know, only the version of jackfield is read.
    fn decode(node: NodeId, text: &str) -> Self {
        let read = serde_json::from_str::<Self>(text).unwrap_or_default();
        if read.format == FORMAT {
            return Self { node: node.0, ..read };
        }
        let version = read.description.version;
        Self { node: node.0, description: NodeDescription { version, ..NodeDescription::default() }, ..Self::default() }
    }
}

impl LiveNode {
    pub fn read(node: NodeId, lease_left_millis: u64, record: &str) -> Self {
        let record = NodeRecord::decode(node, record);
        let renewed_millis_ago =
            (record.lease_millis > 0).then(|| record.lease_millis.saturating_sub(lease_left_millis));
        Self { record, renewed_millis_ago }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_newer_version_is_read_and_of_another_format_only_its_version_is() {
        let description = NodeDescription { version: "1.0.0".to_owned(), connections: 3, ..NodeDescription::default() };
        let record = NodeRecord { lease_millis: 10_000, ..NodeRecord::new(NodeId(7), description) };
        let text = record.encode();
        let live = LiveNode::read(NodeId(7), 8_000, &text);
        assert_eq!((&live.record, live.renewed_millis_ago), (&record, Some(2_000)));

        let newer = text.replace("{\"node\"", "{\"colour\":[1],\"node\"");
        assert_eq!(LiveNode::read(NodeId(7), 8_000, &newer).record, record);

        let other = text.replace("\"format\":1", "\"format\":2");
        let live = LiveNode::read(NodeId(7), 8_000, &other);
        assert_eq!((live.record.node, &*live.record.description.version), (7, "1.0.0"));
        assert_eq!((live.record.description.connections, live.renewed_millis_ago), (0, None));

        assert_eq!(LiveNode::read(NodeId(7), 8_000, "").record.node, 7);
    }
}
