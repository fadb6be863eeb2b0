//! The format of an export: all keys and rows of a store in one file with a checksum, which no storage engine is needed
//! to read. docs/store.md describes it.
//!
//! Knows files. Does not know the storage engine, nor where exports are kept.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

use crate::event::EpochMillis;
use crate::limits;

/// The first bytes of an export, with the version of its format.
const MAGIC: &[u8] = b"jackfield export 1\n";
const KEY: u8 = b'k';
const ROW: u8 = b'r';
const END: u8 = b'e';
/// Largest encoded row: its attributes, of which each named store may have as many, and what is known of the peer. Only
/// a bound for memory, because a damaged length could be anything.
const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One key of a bucket, or one row of a connection as the store encodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Key { bucket: String, key: String, value: Vec<u8> },
    Row { id: String, row: Vec<u8> },
}

impl Record {
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Key { bucket, key, value } => {
                bytes.push(KEY);
                push_part(bytes, bucket.as_bytes());
                push_part(bytes, key.as_bytes());
                push_part(bytes, value);
            }
            Self::Row { id, row } => {
                bytes.push(ROW);
                push_part(bytes, id.as_bytes());
                push_part(bytes, row);
            }
        }
    }
}

fn push_part(bytes: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).expect("every part of a record is smaller than 4 GiB");
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(part);
}

/// What an export holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// When the export was begun.
    pub created: EpochMillis,
    pub keys: u64,
    pub rows: u64,
}

/// Writes an export. It is complete only after `finish`.
pub struct Writer<W: Write> {
    file: BufWriter<W>,
    hasher: blake3::Hasher,
    summary: Summary,
}

impl<W: Write> Writer<W> {
    /// `format` identifies how the store encodes its rows.
    pub fn new(file: W, format: &str, created: EpochMillis) -> io::Result<Self> {
        let summary = Summary { created, keys: 0, rows: 0 };
        let mut writer = Self { file: BufWriter::new(file), hasher: blake3::Hasher::new(), summary };
        let mut head = MAGIC.to_vec();
        push_part(&mut head, format.as_bytes());
        head.extend_from_slice(&created.to_le_bytes());
        writer.write(&head)?;
        Ok(writer)
    }

    /// Appends records that `Record::encode` has encoded.
    pub fn append(&mut self, Records { bytes, keys, rows }: &Records) -> io::Result<()> {
        self.summary.keys += keys;
        self.summary.rows += rows;
        self.write(bytes)
    }

    /// Writes the end of the export. Returns the file, which the caller has to sync.
    pub fn finish(mut self) -> io::Result<(W, Summary)> {
        let mut end = vec![END];
        end.extend_from_slice(&self.summary.keys.to_le_bytes());
        end.extend_from_slice(&self.summary.rows.to_le_bytes());
        self.write(&end)?;
        let checksum = self.hasher.finalize();
        self.file.write_all(checksum.as_bytes())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, self.summary))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }
}

/// Encoded records.
#[derive(Default)]
pub struct Records {
    bytes: Vec<u8>,
    keys: u64,
    rows: u64,
}

impl Records {
    pub fn push(&mut self, record: &Record) {
        match record {
            Record::Key { .. } => self.keys += 1,
            Record::Row { .. } => self.rows += 1,
        }
        record.encode(&mut self.bytes);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads an export and calls `each` with every record, before the checksum is known to be right.
///
/// # Errors
/// If the file cannot be read, is damaged, or is of another format; then `each` may have been called.
pub fn read(path: &Path, format: &str, mut each: impl FnMut(Record) -> anyhow::Result<()>) -> anyhow::Result<Summary> {
    let mut reader = Reader { file: BufReader::new(File::open(path)?), hasher: blake3::Hasher::new() };
    let mut magic = [0; MAGIC.len()];
    let is_export = reader.fill(&mut magic).is_ok() && magic == MAGIC;
    ensure!(is_export, "found other content, expected an export of jackfield (version 1)");
    let found = reader.text(limits::KEY_BYTES_MAX)?;
    ensure!(found == format, "its store has the format {found:?}, and this version knows {format:?}");
    let mut summary = Summary { created: reader.number()?, keys: 0, rows: 0 };
    loop {
        match reader.byte()? {
            KEY => {
                let (bucket, key) = (reader.text(limits::KEY_BYTES_MAX)?, reader.text(limits::KEY_BYTES_MAX)?);
                let value = reader.part(limits::VALUE_BYTES_MAX)?;
                summary.keys += 1;
                each(Record::Key { bucket, key, value })?;
            }
            ROW => {
                let (id, row) = (reader.text(limits::KEY_BYTES_MAX)?, reader.part(ROW_BYTES_MAX)?);
                summary.rows += 1;
                each(Record::Row { id, row })?;
            }
            END => break,
            _ => bail!(DAMAGED),
        }
    }
    ensure!(reader.number()? == summary.keys && reader.number()? == summary.rows, DAMAGED);
    let expected = reader.hasher.finalize();
    let mut checksum = [0; blake3::OUT_LEN];
    reader.file.read_exact(&mut checksum).map_err(cut_off)?;
    // blake3 compares in constant time; that is of no importance here.
    ensure!(expected == checksum, DAMAGED);
    ensure!(reader.file.read(&mut [0])? == 0, "it is damaged: bytes follow its checksum");
    Ok(summary)
}

/// Checks that an export is complete and undamaged.
pub fn verify(path: &Path, format: &str) -> anyhow::Result<Summary> {
    read(path, format, |_| Ok(()))
}

const DAMAGED: &str = "it is damaged: its content does not match its checksum";

fn cut_off(error: io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => anyhow::anyhow!("it is incomplete: found its end before its checksum"),
        _ => error.into(),
    }
}

struct Reader {
    file: BufReader<File>,
    hasher: blake3::Hasher,
}

impl Reader {
    fn fill(&mut self, bytes: &mut [u8]) -> anyhow::Result<()> {
        self.file.read_exact(bytes).map_err(cut_off)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn byte(&mut self) -> anyhow::Result<u8> {
        let mut byte = [0];
        self.fill(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn part(&mut self, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= bytes_max);
        let mut part = vec![0; length.context(DAMAGED)?];
        self.fill(&mut part)?;
        Ok(part)
    }

    fn text(&mut self, bytes_max: usize) -> anyhow::Result<String> {
        String::from_utf8(self.part(bytes_max)?).ok().context(DAMAGED)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FORMAT: &str = "test 1";

    fn records() -> Vec<Record> {
        let key = |bucket: &str, key: &str, bytes: usize| Record::Key {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            value: vec![7; bytes],
        };
        vec![
            key("", "", 0),
            key("bucket", "größe", 3),
            key("\u{1}api-key-quotas", "k", limits::VALUE_BYTES_MAX),
            Record::Row { id: "id=".to_owned(), row: vec![1, 2, 3] },
        ]
    }

    fn export(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), FORMAT, 17).unwrap();
        for record in records {
            let mut encoded = Records::default();
            encoded.push(record);
            writer.append(&encoded).unwrap();
        }
        writer.finish().unwrap().0
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Summary, Vec<Record>), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        let mut records = Vec::new();
        let summary = read(file.path(), FORMAT, |record| {
            records.push(record);
            Ok(())
        });
        summary.map(|summary| (summary, records)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_export_is_read_as_it_was_written() {
        for records in [records(), vec![]] {
            let rows = u64::from(!records.is_empty());
            let summary = Summary { created: 17, keys: records.len() as u64 - rows, rows };
            assert_eq!(read_bytes(&export(&records)), Ok((summary, records)));
        }
    }

    #[test]
    fn an_export_that_is_cut_off_or_changed_at_any_place_is_rejected() {
        let small = &records()[..2];
        let bytes = export(small);
        for length in 0..bytes.len() {
            assert!(read_bytes(&bytes[..length]).is_err(), "cut off after {length} bytes");
            for bit in [0, 7] {
                let mut changed = bytes.clone();
                changed[length] ^= 1 << bit;
                assert!(read_bytes(&changed).is_err(), "bit {bit} of byte {length} is changed");
            }
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(read_bytes(&longer), Err("it is damaged: bytes follow its checksum".to_owned()));
        let error = "found other content, expected an export of jackfield (version 1)";
        assert_eq!(read_bytes(b"text"), Err(error.to_owned()));
        let other = Writer::new(Vec::new(), "test 2", 17).unwrap().finish().unwrap().0;
        let error = "its store has the format \"test 2\", and this version knows \"test 1\"";
        assert_eq!(read_bytes(&other), Err(error.to_owned()));
    }
}
