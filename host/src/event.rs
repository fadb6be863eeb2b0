//! The events of a connection that handlers receive, and the responses that they return.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::id::RequestId;
use crate::payload::Payload;

/// A name and its value, for example of a header. Order and case are those of the sender.
pub type Field = (String, String);

/// Milliseconds since the Unix epoch, as in API Gateway's events.
pub type EpochMillis = u64;

pub fn now() -> EpochMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Formats a time as in `requestTime`, in the Common Log Format: `09/Feb/2024:18:11:43 +0000`.
pub fn clf_time(at: EpochMillis) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let ([year, month, day], seconds) = (date(at), at / 1000 % 86_400);
    let name = MONTHS[month as usize];
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{day:02}/{name}/{year:04}:{hours:02}:{minutes:02}:{seconds:02} +0000")
}

/// Returns the number of months from the year 0 to the month of this time, in UTC.
pub fn calendar_month(at: EpochMillis) -> u64 {
    let [year, month, _] = date(at);
    year * 12 + month
}

/// Returns the date of a time in UTC: year, month from 0 and day from 1.
fn date(at: EpochMillis) -> [u64; 3] {
    let days = at / 86_400_000;
    // Years are counted from March, so that the leap day is the last day of a year. 400 such years are an era, and all
    // eras have the same number of days.
    let (era, day) = ((days + 719_468) / 146_097, (days + 719_468) % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    [year, (month + 2) % 12, day]
}

/// One event of a connection. A clone shares its strings and the message.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The upgrade request, which waits until the handler returns.
    Connect {
        headers: Arc<[Field]>,
        query_string: Arc<[Field]>,
    },
    Message {
        message_id: RequestId,
        body: Payload,
    },
    /// The end of the connection, which is already closed.
    Disconnect(Disconnect),
}

/// How a connection ended, as `$disconnect` receives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    pub status_code: u16,
    pub reason: String,
}

impl Disconnect {
    /// The connection was lost without a close frame, or the process that had it crashed.
    pub fn abnormal() -> Self {
        Self { status_code: 1006, reason: String::new() }
    }
}

/// The response of a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub status_code: u16,
    pub headers: Vec<Field>,
    pub body: Option<Payload>,
}

/// The decision of an authorizer about a peer that wants to connect.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allow(Grant),
    /// The peer is known, but may not connect.
    Deny,
    /// The peer is unknown.
    Unauthorized,
}

/// The identity of an admitted peer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grant {
    pub principal_id: String,
    /// Values that every later event of the connection contains.
    pub context: Vec<Field>,
}

impl Response {
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_formatted_in_the_common_log_format() {
        for (at, expected) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (1_707_502_303_420, "09/Feb/2024:18:11:43 +0000"),
            (1_705_751_708_326, "20/Jan/2024:11:55:08 +0000"),
            (951_782_399_999, "28/Feb/2000:23:59:59 +0000"),
            (951_782_400_000, "29/Feb/2000:00:00:00 +0000"),
            (1_709_251_199_999, "29/Feb/2024:23:59:59 +0000"),
            (1_709_251_200_000, "01/Mar/2024:00:00:00 +0000"),
            (1_735_689_599_999, "31/Dec/2024:23:59:59 +0000"),
            (4_107_542_400_000, "01/Mar/2100:00:00:00 +0000"),
            (253_402_300_800_000, "01/Jan/10000:00:00:00 +0000"),
        ] {
            assert_eq!(clf_time(at), expected, "{at}");
        }
    }
}
