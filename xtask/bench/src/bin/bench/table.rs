//! Formats the rows as a table for a person.

use crate::figure::{Row, Verdict};
use crate::target::Target;

const HEADINGS: [&str; 8] = ["figure", "handler", "plain", "jackfield", "compared", "of the rounds", "target", ""];
/// The columns that are aligned to the left. The others have numbers and are aligned to the right.
const LEFT_COLUMNS: [usize; 3] = [0, 1, 7];

/// Returns the table, and below it the notes on rows.
pub fn render(rows: &[Row]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let mut lines = vec![HEADINGS.map(String::from)];
    lines.extend(rows.iter().map(|row| {
        let mark = row.note.as_ref().map(|note| {
            let known = notes.iter().position(|known| known == note);
            let index = known.unwrap_or_else(|| {
                notes.push(note.clone());
                notes.len() - 1
            });
            format!(" ({})", index + 1)
        });
        cells(row, mark.unwrap_or_default())
    }));
    let widths: [usize; 8] =
        std::array::from_fn(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default());
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().enumerate().map(|(column, cell)| pad(cell, column, widths[column])).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    let notes: Vec<String> = notes.iter().enumerate().map(|(index, note)| format!("({}) {note}", index + 1)).collect();
    text + &notes.join("\n")
}

fn pad(cell: &str, column: usize, width: usize) -> String {
    if LEFT_COLUMNS.contains(&column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
}

fn cells(row: &Row, mark: String) -> [String; 8] {
    let value = |value: Option<f64>, unit| value.map_or_else(|| "-".into(), |value| amount(value, unit));
    let range = row.range.map(|(low, high)| format!("{} to {}", number(low), number(high)));
    let target = match row.target {
        Target::AtMost(limit) => format!("at most {}", amount(limit, row.judged_unit)),
        Target::AtLeast(limit) => format!("at least {}", amount(limit, row.judged_unit)),
        Target::Nothing => "-".into(),
    };
    let verdict = match row.verdict {
        Verdict::Met => "met",
        Verdict::Missed => "MISSED",
        Verdict::Stated => "stated",
        Verdict::NotJudged => "not judged",
    };
    [
        row.figure.clone(),
        row.subject.clone(),
        value(row.plain, row.unit),
        value(row.jackfield, row.unit),
        value(row.judged, row.judged_unit),
        range.unwrap_or_default(),
        target,
        format!("{verdict}{mark}"),
    ]
}

fn amount(value: f64, unit: &str) -> String {
    let space = if matches!(unit, "x" | "/s") { "" } else { " " };
    format!("{}{space}{unit}", number(value))
}

/// Formats about three significant digits, but all digits before the decimal point.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(verdict: Verdict, note: Option<&str>) -> Row {
        Row {
            figure: "echo, CPU a message".into(),
            subject: "wasip2".into(),
            unit: "us",
            plain: Some(11.9),
            jackfield: Some(21.3),
            judged: Some(1.789),
            judged_unit: "x",
            range: Some((1.7, 1.85)),
            target: Target::AtMost(1.9),
            verdict,
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn a_row_has_the_measured_values_the_target_and_the_verdict() {
        let text = render(&[row(Verdict::Met, None)]);
        let line = text.lines().nth(1).expect("a row follows the heads");
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            ["echo, CPU a message", "wasip2", "11.9 us", "21.3 us", "1.79x", "1.70 to 1.85", "at most 1.90x", "met"]
        );
    }

    #[test]
    fn a_note_is_printed_once_below_the_table_with_its_number() {
        let busy = || row(Verdict::NotJudged, Some("the machine is busy"));
        let text = render(&[row(Verdict::Met, None), busy(), busy()]);
        assert_eq!(text.matches("not judged (1)\n").count(), 2, "{text}");
        assert!(text.ends_with("\n(1) the machine is busy"), "{text}");
        assert_eq!(text.matches("the machine is busy").count(), 1, "{text}");
    }

    #[test]
    fn numbers_have_about_three_significant_digits() {
        assert_eq!([0.334, 11.94, 61234.5].map(number), ["0.33", "11.9", "61234"]);
        assert_eq!(amount(4000.0, "/s"), "4000/s");
    }
}
