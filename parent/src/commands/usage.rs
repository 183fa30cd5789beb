//! The table of `rspawn top`, and how it is put on a terminal.
use super::human::{self, Side};
use rspawn_host::containers::stats::usage::UsageSample;
use rspawn_host::state::{Ending, Status};

/// A container and what it uses.
pub struct Row {
    pub id: String,
    pub status: Status,
    pub ending: Option<Ending>,
    /// Per cent of one CPU.
    pub cpu: Option<f64>,
    pub sample: UsageSample,
}

/// Lines, the busiest first.
pub fn table(mut rows: Vec<Row>, whole_ids: bool) -> Vec<String> {
    let busy = |row: &Row| row.cpu.unwrap_or(0.0);
    rows.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.id.cmp(&b.id)));
    use Side::{Left, Right};
    let heads = [
        ("ID", Left),
        ("STATUS", Left),
        ("CPU%", Right),
        ("MEM", Right),
        ("PIDS", Right),
        ("CPU-P", Right),
        ("MEM-P", Right),
        ("IO-P", Right),
    ];
    human::table(heads, rows.into_iter().map(|row| cells(row, whole_ids)))
}

fn cells(row: Row, whole_id: bool) -> [String; 8] {
    let Row { id, status, ending, cpu, sample } = row;
    let [cpu_pressure, memory_pressure, io_pressure] = sample.pressure.map(|some| decimal(some, 2));
    [
        human::short_id(&id, whole_id),
        human::status(status, ending),
        decimal(cpu, 1),
        of_limit(sample.memory, sample.memory_limit, human::size),
        of_limit(sample.pids, sample.pids_limit, |number| number.to_string()),
        cpu_pressure,
        memory_pressure,
        io_pressure,
    ]
}

fn decimal(number: Option<f64>, places: usize) -> String {
    number.map_or_else(|| "-".into(), |number| format!("{number:.places$}"))
}

/// `12M/64M`; without a limit `12M`, and where nobody counts a dash.
fn of_limit(amount: Option<u64>, limit: Option<u64>, show: impl Fn(u64) -> String) -> String {
    match (amount, limit) {
        (None, _) => "-".into(),
        (Some(amount), None) => show(amount),
        (Some(amount), Some(limit)) => format!("{}/{}", show(amount), show(limit)),
    }
}

/// Text that draws lines from the terminal's upper left corner, over what was there: as many, and as much of each, as
/// it has room for. Each line is cleared behind its end rather than all before, which would flicker.
pub fn screen(lines: &[String], size: Option<(u16, u16)>) -> String {
    let (rows, columns) = size.map_or((24, 80), |(rows, columns)| (usize::from(rows), usize::from(columns)));
    let mut text = "\x1b[H".to_string();
    // The last row stays free: a line's end there would scroll. So does the last column: what stands there is cleared too.
    for line in lines.iter().take(rows.saturating_sub(1).max(1)) {
        text.extend(line.chars().take(columns.saturating_sub(1).max(1)));
        text.push_str("\x1b[K\n");
    }
    text + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, cpu: Option<f64>, sample: UsageSample) -> Row {
        Row { id: id.into(), status: Status::Running, ending: None, cpu, sample }
    }

    #[test]
    fn the_busiest_is_first_and_what_is_not_counted_a_dash() {
        let limited = UsageSample {
            memory: Some(12 << 20),
            memory_limit: Some(64 << 20),
            pids: Some(3),
            pids_limit: Some(40),
            pressure: [Some(1.5), Some(0.0), None],
            ..UsageSample::default()
        };
        let free = UsageSample { memory: Some(1536), pids: Some(1), ..UsageSample::default() };
        let rows = vec![
            row("idle", None, UsageSample::default()),
            row("free", Some(0.04), free),
            row("b", Some(150.0), limited),
        ];
        let words: Vec<Vec<String>> =
            table(rows, false).iter().map(|line| line.split_whitespace().map(str::to_string).collect()).collect();
        assert_eq!(words[1], ["b", "running", "150.0", "12M/64M", "3/40", "1.50", "0.00", "-"]);
        assert_eq!(words[2], ["free", "running", "0.0", "1.5K", "1", "-", "-", "-"]);
        assert_eq!(words[3], ["idle", "running", "-", "-", "-", "-", "-", "-"]);
    }

    #[test]
    fn a_screen_has_only_what_fits() {
        let lines = ["abcdef", "second", "third"].map(str::to_string);
        assert_eq!(screen(&lines, Some((3, 5))), "\x1b[Habcd\x1b[K\nseco\x1b[K\n\x1b[J");
        assert!(screen(&lines, None).contains("third"));
    }
}
