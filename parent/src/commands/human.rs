//! Tables, ages and amounts as people read them. Nothing here is for programs: its form may change.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rspawn_host::state::{Ending, Status};
use rspawn_planner::printable::printable;

/// Which way the cells of a column lean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Lines of a table, its heads first. What cells hold may be the payload's: it is made safe to print.
pub fn table<const N: usize>(heads: [(&str, Side); N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)));
    let rows: Vec<[String; N]> = [heads.map(|(head, _)| head.to_string())].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(heads).zip(widths).map(|((cell, (_, side)), width)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

/// An engine's id, of 64 hexadecimal digits, as engines show it: twelve of them. Other names are people's own.
pub fn short_id(id: &str, whole: bool) -> String {
    let is_engines = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_engines && !whole { id[..12].into() } else { id.into() }
}

/// `running`, `stopped (exit status 3)`; of one that nobody knows how it ended, `stopped`.
pub fn status(status: Status, ending: Option<Ending>) -> String {
    ending.map_or_else(|| status.name().to_string(), |ending| format!("{} ({ending})", status.name()))
}

/// How long ago nanoseconds since the epoch were.
pub fn since(then: u64) -> String {
    let then = UNIX_EPOCH + Duration::from_nanos(then);
    // The clock may have been set back.
    SystemTime::now().duration_since(then).map_or_else(|_| "in the future".into(), |age| format!("{} ago", span(age)))
}

/// A time in its largest unit, rounded down: of a day, nobody counts the seconds.
pub fn span(time: Duration) -> String {
    const UNITS: [(u64, u64, &str); 4] =
        [(60, 1, "s"), (60 * 60, 60, "min"), (48 * 60 * 60, 60 * 60, "h"), (u64::MAX, 24 * 60 * 60, "days")];
    let seconds = time.as_secs();
    let fits = UNITS.iter().find(|(below, _, _)| seconds < *below);
    let (_, unit, name) = fits.unwrap_or(&UNITS[UNITS.len() - 1]);
    format!("{} {name}", seconds / unit)
}

/// Time that a CPU has worked: `0:07.25`, `83:20.00`.
pub fn cpu_time(time: Duration) -> String {
    let (seconds, hundredths) = (time.as_secs(), time.subsec_millis() / 10);
    format!("{}:{:02}.{hundredths:02}", seconds / 60, seconds % 60)
}

/// Bytes, to the base 1024 as runc's options take them: `512`, `1.5K`, `64M`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    let (mut amount, mut unit) = (bytes as f64, "");
    for next in UNITS {
        // Not 1024.0: what would be rounded up to it is shown in the next unit.
        if amount < 1023.95 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    let text = format!("{amount:.1}");
    format!("{}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_ages() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (48 * 3600 - 1, "47 h"),
            (48 * 3600, "2 days"),
            (400 * 86_400, "400 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let before = |time: Duration| since((now - time).as_nanos() as u64);
        assert_eq!(before(Duration::from_secs(200)), "3 min ago");
        assert_eq!(since((now + Duration::from_secs(1000)).as_nanos() as u64), "in the future");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (1536, "1.5K"),
            ((1 << 20) - 1, "1M"),
            (64 << 20, "64M"),
            (5 << 29, "2.5G"),
            (u64::MAX, "16E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_of_a_cpu() {
        assert_eq!(cpu_time(Duration::from_millis(7250)), "0:07.25");
        assert_eq!(cpu_time(Duration::from_secs(5000)), "83:20.00");
    }

    #[test]
    fn tables_are_aligned_and_command_no_terminal() {
        let heads = [("ID", Side::Left), ("N", Side::Right), ("LAST", Side::Left)];
        let rows = [["ä", "7", "x"], ["longer", "1000", "\x1b[2J"]].map(|row| row.map(str::to_string));
        assert_eq!(table(heads, rows), ["ID         N  LAST", "ä          7  x", "longer  1000  \\u{1b}[2J"]);
    }

    #[test]
    fn only_ids_of_engines_are_shortened() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(short_id(&id, false), "0123456789ab");
        assert_eq!(short_id(&id, true), id);
        for own in
            ["a-rather-long-name-that-somebody-has-given-to-a-container-of-his-own", "0123456789abcdef", &id[1..]]
        {
            assert_eq!(short_id(own, false), own);
        }
    }

    #[test]
    fn an_ending_is_shown_where_it_is_known() {
        assert_eq!(status(Status::Stopped, None), "stopped");
        assert_eq!(status(Status::Stopped, Some(Ending::Exit(3))), "stopped (exit status 3)");
        assert_eq!(status(Status::Running, None), "running");
    }
}
